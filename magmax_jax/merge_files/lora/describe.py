"""Describes an adapter in one line, for `magmax inspect`."""

from collections.abc import Iterable

from magmax_jax.errors import UserError
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.merge_files.lora import adapter


def describe(files: TensorFiles) -> list[str]:
    """What kind of adapter it is, or why it cannot be merged; nothing for other checkpoints."""
    try:
        found = adapter.find(files)
    except UserError as error:
        return [str(error)]
    if found is None:
        return []
    config, modules = found.config, found.contents.modules
    kinds = sorted({name.rpartition(".")[2] for name in modules})
    line = (
        f"LoRA adapter of {config.base or 'a model that it does not name'}: rank "
        f"{_range(config.rank_of(name) for name in modules)}, scale "
        f"{_range(config.scale_of(name) for name in modules)}, "
        f"{len(modules)} modules ({', '.join(kinds)})"
    )
    whole = len(found.contents.whole)
    return [f"{line}, {whole} tensors whole" if whole else line]


def _range(values: Iterable[float]) -> str:
    found = sorted(set(values))
    if not found:
        return "none"
    return f"{found[0]:g}" if len(found) == 1 else f"{found[0]:g} to {found[-1]:g}"
