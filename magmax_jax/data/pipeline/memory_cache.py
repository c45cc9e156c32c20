"""Caches small data sets in memory: every image is decoded once for all epochs and tasks."""

from dataclasses import replace
from typing import Any

import numpy as np

from magmax_jax.data.concat import Joined
from magmax_jax.data.source import Images, Source
from magmax_jax.inputs.host_resize import untouched

CACHED_BYTES = 1 << 30
"""Images of a split are kept in memory if they take at most this much as uint8."""


class Cached:
    """n images of one size, decoded on first use and then cached.

    Thread-safe: two threads that miss the same image write the same pixels. Pickling drops the
    pixels. Only images that were read take memory: the pages of others are never written.
    """

    def __init__(self, images: Images, count: int, shape: tuple[int, int]):
        """`shape` is (height, width) of each of `count` images."""
        self._images = images
        self._pixels = np.empty((count, *shape, 3), np.uint8)
        self._filled = np.zeros(count, bool)

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.rows(np.array([index]))[0]

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Several images together.

        Args:
          indices: int (k,).

        Returns:
          uint8 (k, height, width, 3), a copy.
        """
        for index in indices[~self._filled[indices]]:
            self._pixels[index] = self._images[index]
            self._filled[index] = True  # last, as other threads may now read the pixels
        return self._pixels[indices]

    def __reduce__(self) -> tuple[Any, ...]:
        count, height, width, _ = self._pixels.shape
        return Cached, (self._images, count, (height, width))


def in_memory(images: Images) -> bool:
    """Whether images are or become an array, which every worker process would copy."""
    return isinstance(images, np.ndarray | Cached)


def cached(source: Source, size: int, workers: int = 0) -> Source:
    """The source with its images cached once they are read, if worthwhile; else unchanged.

    It is worthwhile if images have one size, go to the device unchanged, and take at most
    `CACHED_BYTES`. Joined data sets are judged separately, and not cached if worker processes read
    them: each would keep a copy.

    Args:
      size, workers: as in `train_batches`.
    """
    images = source.images
    if isinstance(images, Joined) and source.image_shape is None:
        if workers:
            return source
        sizes = np.diff([*images.starts, len(source)])
        parts = zip(images.parts, sizes, images.shapes, strict=True)
        kept_parts = tuple(_cached(part, int(count), shape, size) for part, count, shape in parts)
        return replace(source, images=replace(images, parts=kept_parts))
    kept = _cached(images, len(source), source.image_shape, size)
    return source if kept is images else replace(source, images=kept)


def _cached(images: Images, count: int, shape: tuple[int, int] | None, size: int) -> Images:
    if in_memory(images) or shape is None or not untouched(shape, size):
        return images
    height, width = shape
    worth_it = 3 * height * width * count <= CACHED_BYTES
    return Cached(images, count, shape) if worth_it else images
