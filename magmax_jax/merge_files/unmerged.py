"""Complex tensors, which no rule merges: they stay theta_0's only where all models agree."""

from collections.abc import Iterator, Sequence

import numpy as np

from magmax_jax.io.safetensors.header import Tensor, name_of
from magmax_jax.io.safetensors.reader import Reader, TensorFiles

_PIECE = 1 << 20
"""Entries that are compared at once."""


def complex_problems(
    pretrained: TensorFiles, models: Sequence[TensorFiles], others: Sequence[str]
) -> Iterator[str]:
    """A problem for every model whose complex tensors are not theta_0's; reads those alone.

    Args:
      others: names of theta_0's tensors that would be merged if their dtype allowed it.
    """
    names = [name for name in others if pretrained.tensors[name].dtype.kind == "c"]
    with Reader() as reader:
        for model in models:
            for name in names:
                ours, theirs = pretrained.tensors[name], model.tensors.get(name)
                if theirs is not None and not _equal(reader, ours, theirs):
                    yield (
                        f"{model.place}: {name} is {name_of(ours.dtype)}, which is not merged, and "
                        f"differs from theta_0's: keep theta_0's with --exclude {name}"
                    )
                    break


def _equal(reader: Reader, one: Tensor, other: Tensor) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    for start in range(0, one.size, _PIECE):
        pieces = [np.empty(min(_PIECE, one.size - start), one.dtype) for _ in range(2)]
        reader.into(pieces[0], one, start)
        reader.into(pieces[1], other, start)
        if pieces[0].tobytes() != pieces[1].tobytes():
            return False
    return True
