"""Notes on merged adapters: how they are read, and which model they are for."""

from collections.abc import Iterable, Iterator, Sequence

from magmax_jax.errors import UserError, some
from magmax_jax.io.json_files import read_object
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.merge_files.job import Job
from magmax_jax.merge_files.lora.adapter import Adapter


def notes_on(job: Job, pretrained: TensorFiles, adapters: Sequence[Adapter]) -> Iterator[str]:
    """That they are read as models, and which were trained on a model other than theta_0."""
    places = [str(source.place) for source in adapters]
    verb = "is a LoRA adapter" if len(places) == 1 else "are LoRA adapters"
    yield f"{some(places)} {verb}, read as theta_0 + scaled B A"
    known = {_short(name) for name in _names(job, pretrained)}
    others: dict[str, list[str]] = {}
    for source in adapters:
        if source.config.base and _short(source.config.base) not in known:
            others.setdefault(source.config.base, []).append(str(source.place))
    for base, mine in others.items():
        yield f"{some(mine, shown=1)}: trained on {base}, but added to {pretrained.place}"


def _names(job: Job, pretrained: TensorFiles) -> Iterable[str]:
    """theta_0's names: its place, and any in its configuration."""
    try:
        config = read_object(pretrained.directory / "config.json") or {}
    except UserError:  # reported when the weights are compared
        config = {}
    return filter(None, (job.pretrained, str(pretrained.place), config.get("_name_or_path")))


def _short(name: str) -> str:
    """A model's name without its owner, folders or revision."""
    return name.rstrip("/").rpartition("/")[2].partition("@")[0].lower()
