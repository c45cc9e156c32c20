"""Tensors that no file holds: their entries are computed from others when they are read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from magmax_jax.io.safetensors.header import Tensor

Read = Callable[[np.ndarray, Tensor, int], None]
"""Fills a one-dimensional array with a tensor's entries from one on, as `Reader.into` does."""
Fill = Callable[[np.ndarray, int, Read], None]
"""Fills a one-dimensional array with the entries from one on; reads what it needs with `Read`."""
NOWHERE = -1


class Computed(Tensor):
    """A tensor that is computed piece by piece, so it is never in memory whole.

    Attributes:
      fill: computes any range of entries. May be called from threads.
    """

    fill: Fill

    def __new__(cls, path: Path, dtype: np.dtype, shape: tuple[int, ...], fill: Fill) -> "Computed":
        """`path` is the file that the tensor comes from, for messages."""
        made = super().__new__(cls, path, NOWHERE, dtype, shape)
        made.fill = fill
        return made

    def __eq__(self, other: object) -> bool:
        """Tensors of one file and shape are computed by different means."""
        return isinstance(other, Computed) and tuple.__eq__(self, other) and self.fill == other.fill

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return tuple.__hash__(self)

    def _replace(self, **changed: Any) -> "Computed":
        made = super()._replace(**changed)
        made.fill = self.fill
        return made
