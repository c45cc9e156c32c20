"""Data sets as random-access sources of uint8 images and their labels."""

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
    """One split of a data set of n images; worker processes receive it whole, so it pickles."""

    images: Images
    """images[i] is uint8 (height, width, 3)."""
    labels: np.ndarray
    """int32 (n,), indices into `class_names`."""
    class_names: tuple[str, ...]
    domains: np.ndarray | None = None
    """int32 (n,), indices into `domain_names`, -1 for an image without a domain; None where the
    data set has no domains."""
    domain_names: tuple[str, ...] = ()
    image_shape: tuple[int, int] | None = None
    """(height, width) of every image, None when they differ."""
    passed_over: frozenset[str] = frozenset()
    """Paths in its folders that were not read, since they are no images by their suffix, or images
    outside the folders of the classes."""

    def __len__(self) -> int:
        return len(self.labels)


def one_shape(shapes: Iterable[Shape]) -> Shape | None:
    """The (height, width) that all share, None if they differ; stops at the first odd one."""
    common = None
    for shape in shapes:
        if common not in (None, shape):
            return None
        common = shape
    return common


def hold_out(labels: np.ndarray, split: Split) -> np.ndarray:
    """Divides a data set that has one part only: every fifth image of each class is for testing.

    For digits and TFDS builders without a row; `seeded_split.divide` serves the others.

    Args:
      labels: int (n,).

    Returns:
      int64 (m,), the ascending positions that belong to `split`.
    """
    held_out = rank_in_group(labels) % 5 == 4
    return np.flatnonzero(held_out if split == "test" else ~held_out)


def rank_in_group(groups: np.ndarray) -> np.ndarray:
    """How many earlier entries are in the same group: [3, 7, 3, 3] -> [0, 0, 1, 2].

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
