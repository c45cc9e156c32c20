"""How a rule treats the merged tensors in words, if it treats some differently."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from magmax_jax.errors import counted, some
from magmax_jax.io.safetensors.reader import Tensor

if TYPE_CHECKING:
    from magmax_jax.merging import MergeRule

NAMED = 3
"""Kinds with at most this many tensors are shown with their names."""


def taken_as(
    rule: "MergeRule",
    names: Sequence[str],
    tensors: Mapping[str, Tensor],
    size: Callable[[int], str],
) -> str:
    """Number of tensors of each kind that the rule distinguishes; empty if it distinguishes none.

    E.g. "takes 73 tensors (344 MB) as matrices; 1 tensor (154 kB: position_embedding.weight) as
    tables (averaged)".

    Args:
      names: of the tensors to merge.
      tensors: theta_0's.
      size: formats bytes.
    """
    if rule.of_leaf is None:
        return ""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(rule.of_leaf(name, tensors[name].shape).taken_as, []).append(name)

    def of_kind(words: str, names: list[str]) -> str:
        shown = f": {some(names)}" if len(names) <= NAMED else ""
        nbytes = size(sum(tensors[name].nbytes for name in names))
        return f"{counted(len(names), 'tensor')} ({nbytes}{shown}) {words}"

    return "takes " + "; ".join(of_kind(*kind) for kind in kinds.items()) if kinds else ""
