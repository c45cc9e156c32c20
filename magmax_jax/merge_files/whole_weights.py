"""What a merge requires of every source, and its notes on accepted ones."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from magmax_jax.io.hub import ADAPTER, INDEX
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.merge_files import patterns
from magmax_jax.merge_files.dequantise import read_as_weights
from magmax_jax.merge_files.job import Job
from magmax_jax.merge_files.quantised import check_whole


def opening(open_source: Callable[[str], TensorFiles], job: Job) -> Callable[[str], TensorFiles]:
    """`open_source` that refuses quantised weights, or dequantises FP8 on request."""
    wanted = partial(patterns.chosen, include=job.include, exclude=job.exclude)

    def opened(source: str) -> TensorFiles:
        files = open_source(source)
        if job.dequantise:
            return read_as_weights(files)
        check_whole(files, wanted)
        return files

    return opened


def notes(pretrained: TensorFiles, models: Sequence[TensorFiles]) -> Iterator[str]:
    """Which one is read from directories that hold a file and shards, or a model and an adapter."""
    for files in (pretrained, *models):
        index = files.files[0].with_suffix(INDEX)
        if len(files.files) == 1 and index.is_file():
            yield (
                f"{files.directory}: {files.files[0].name} is read, as transformers does, not the "
                f"shards of {index.name} beside it: remove the one that you do not want"
            )
        adapter = files.directory / ADAPTER
        if not files.loose and files.files[0].name != ADAPTER and adapter.is_file():
            yield (
                f"{files.directory}: its whole model is read, not the adapter beside it: name "
                f"{adapter} if you want that one"
            )
