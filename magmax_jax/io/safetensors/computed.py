"""Tensors not stored in any file: their entries are computed from others when read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from magmax_jax.io.safetensors.header import Tensor

Read = Callable[[np.ndarray, Tensor, int], None]
"""Fills a one-dimensional array with a tensor's entries from an offset, like `Reader.into`."""
Fill = Callable[[np.ndarray, int, Read], None]
"""Fills a one-dimensional array with the entries from an offset; reads inputs with `Read`."""
NOWHERE = -1


class Computed(Tensor):
    """A tensor computed piece by piece, so it is never whole in memory.

    Attributes:
      fill: computes any range of entries. Must be thread-safe.
    """

    fill: Fill

    def __new__(cls, path: Path, dtype: np.dtype, shape: tuple[int, ...], fill: Fill) -> "Computed":
        """`path` is the file that the tensor comes from, for messages."""
        made = super().__new__(cls, path, NOWHERE, dtype, shape)
        made.fill = fill
        return made

    def __eq__(self, other: object) -> bool:
        """Tensors of the same file and shape may be computed differently."""
        return isinstance(other, Computed) and tuple.__eq__(self, other) and self.fill == other.fill

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return tuple.__hash__(self)

    def _replace(self, **changed: Any) -> "Computed":
        made = super()._replace(**changed)
        made.fill = self.fill
        return made
