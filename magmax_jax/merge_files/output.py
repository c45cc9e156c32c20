"""The output of a merge: a directory with theta_0's names of files, or one file of a given name."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from magmax_jax.errors import UserError
from magmax_jax.io.atomic import check_free, new_directory, new_file, refusing
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.io.safetensors.writer import DirectoryWriter, OneFileWriter, TensorSpecs
from magmax_jax.merge_files.plan import Plan

_KNOWN = re.compile(
    r"(?P<stem>model|diffusion_pytorch_model|open_clip_model|open_clip_pytorch_model|adapter_model)"
    r"(?P<variant>\.[a-z]+\d+)?(?P<shard>-\d+-of-\d+)?\.safetensors"
)
"""Names under which libraries look for weights, with a variant (`.fp16`), without shards."""


def is_file(output: Path) -> bool:
    """Whether the output is one file, as its name says, and not a directory."""
    return output.suffix == ".safetensors"


def stem(pretrained: TensorFiles, out_dtype: str | None = None) -> str:
    """What the output's weights are called: as theta_0's, where that is what a library looks for.

    Args:
      out_dtype: of the merged tensors; None where it is theta_0's, which a variant's name says.
    """
    known = _KNOWN.fullmatch(pretrained.files[0].name)
    if known is None:
        return "model"
    # Libraries disagree on how the indices of a variant's shards are called.
    plain = out_dtype is not None or known["shard"] or known["variant"] is None
    return known["stem"] + ("" if plain else known["variant"])


def check(plan: Plan, output: Path) -> None:
    """Raises a UserError if `output` exists already, or cannot hold what is asked for."""
    if is_file(output) and plan.job.lora_rank is not None:
        raise UserError(f"{output}: an adapter is a directory, so give --output a directory's name")
    check_free(output)
    if is_file(output) and plan.companions is not None:
        raise UserError(
            f"--companions-from: {output} will be one file, with nothing beside it: "
            "name a directory as --output"
        )


@contextlib.contextmanager
def new_output(output: Path) -> Iterator[Path]:
    """Where to write: a directory, or a file's name; it becomes `output` if all goes well.

    Raises:
      UserError: `output` holds something, or the disk refuses.
    """
    if not is_file(output):
        with new_directory(output) as partial:
            yield partial
        return
    with refusing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with new_file(output) as partial:
            yield partial


def open_writer(plan: Plan, partial: Path, output: Path, tensors: TensorSpecs) -> DirectoryWriter:
    """Writes weights to the temporary place of `output`; raises as `DirectoryWriter` does."""
    if is_file(output):
        return OneFileWriter(partial, tensors, plan.twins)
    return DirectoryWriter(
        partial,
        tensors,
        plan.job.shard_bytes,
        stem(plan.pretrained, plan.job.out_dtype),
        plan.twins,
    )
