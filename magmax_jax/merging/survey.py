"""What a rule may query about whole task vectors when it is fed piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from magmax_jax.merging.numerics.over_tasks import EachTask
from magmax_jax.merging.task_vectors import PyTree
from magmax_jax.packages.lazy_jax import jax


class TaskVectors(Protocol):
    """The task vectors tau_1 ... tau_t of a merge, too large for memory: each call makes passes.

    A rule's `survey` gets from it the numbers that no single piece holds. All answers are exact:
    they do not depend on how the task vectors are split into pieces, files or devices.

    Attributes:
      count: number of task vectors, t.
      size: floating-point entries of each.
    """

    @property
    def count(self) -> int: ...

    @property
    def size(self) -> int: ...

    def kth_magnitudes(self, k: int) -> list[float]:
        """The k-th smallest |entry| of each task vector, equal to `kth_magnitude` in memory.

        Five or six passes, for all task vectors together.
        """
        ...

    def total(self, function: Callable[[EachTask], jax.Array]) -> np.ndarray:
        """The sum over all pieces of what `function` counts in each: int64, in one pass.

        Args:
          function: takes one piece of every task vector, float32 (n,) each, the same n entries of
            all, and returns an integer array whose shape does not depend on n; jitted. The pieces
            are a tuple, or of many task vectors one array (t, n). Floats are refused: their sum
            would depend on where the pieces end. Use `tensors` for them.

        Raises:
          TypeError: it returns floats.
        """
        ...

    def tensors(self) -> Iterator[tuple[PyTree, Iterator[PyTree]]]:
        """Every merged tensor in the order of names: theta_0's, and those of tau_1 ... tau_t.

        Each is a tree of one float32 leaf, as the rule itself is fed. Task vectors are read lazily,
        so one pass need not hold two.
        """
        ...

    def stacks(self) -> Iterator[tuple[Sequence[str], PyTree, Iterator[PyTree]]]:
        """As `tensors`, but several at a time, which is faster for many small tensors.

        Yields the names of n tensors of one shape, and trees of one float32 leaf (n, *shape). n is
        1 for large tensors and for a rule that reads names for more than draws. The order is not
        that of names, so callers that sum must sort first.
        """
        ...
