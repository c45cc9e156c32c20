"""Data sets as random-access sources of uint8 images and labels."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

Split = Literal["train", "test"]
Shape = tuple[int, int]
"""(height, width) of an image."""


class Images(Protocol):
    """n images that can be indexed: an array, or a view that decodes on demand."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray:
        """uint8 (height, width, 3)."""


@dataclass(frozen=True)
class Source:
    """One split of a data set, n images; it is picklable, for sending it to worker processes."""

    images: Images
    """images[i] is uint8 (height, width, 3)."""
    labels: np.ndarray
    """int32 (n,), indices into `class_names`."""
    class_names: tuple[str, ...]
    domains: np.ndarray | None = None
    """int32 (n,), indices into `domain_names`, -1 for an image without a domain; None if the data
    set has no domains."""
    domain_names: tuple[str, ...] = ()
    image_shape: tuple[int, int] | None = None
    """(height, width) of all images, None if they differ."""
    passed_over: frozenset[str] = frozenset()
    """Paths in its folders that were skipped: files without an image's suffix, or images outside
    the class folders."""

    def __len__(self) -> int:
        return len(self.labels)


def one_shape(shapes: Iterable[Shape]) -> Shape | None:
    """The (height, width) that all share, None if they differ; stops at the first difference."""
    common = None
    for shape in shapes:
        if common not in (None, shape):
            return None
        common = shape
    return common


def hold_out(labels: np.ndarray, split: Split) -> np.ndarray:
    """Divides a data set with only one part: every fifth image of each class is for testing.

    Used for digits and TFDS builders not in `DATA_SETS`; others use `seeded_split.divide`.

    Args:
      labels: int (n,).

    Returns:
      int64 (m,), the ascending positions that belong to `split`.
    """
    held_out = rank_in_group(labels) % 5 == 4
    return np.flatnonzero(held_out if split == "test" else ~held_out)


def rank_in_group(groups: np.ndarray) -> np.ndarray:
    """Number of earlier entries in the same group: [3, 7, 3, 3] -> [0, 0, 1, 2].

    Args:
      groups: int (n,).

    Returns:
      int64 (n,).
    """
    by_group = np.argsort(groups, kind="stable")
    _, first, inverse = np.unique(groups[by_group], return_index=True, return_inverse=True)
    rank = np.empty(len(groups), np.int64)
    rank[by_group] = np.arange(len(groups)) - first[inverse]
    return rank
