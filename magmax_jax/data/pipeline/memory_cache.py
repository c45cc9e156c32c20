"""Small data sets in memory: every image is decoded once, however many epochs and tasks see it."""

from dataclasses import replace
from typing import Any

import numpy as np

from magmax_jax.data.concat import Joined
from magmax_jax.data.source import Images, Source
from magmax_jax.inputs.host_resize import untouched

CACHED_BYTES = 1 << 30
"""Images of one split that take no more than this, as uint8, stay in memory."""


class Cached:
    """n images of one size, decoded when first asked for, then kept.

    Threads may share it: two that miss the same image write the same pixels. Pickling leaves the
    pixels behind. Memory is taken by what was read: the pages of other images are never written.
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
        """Several images at once.

        Args:
          indices: int (k,).

        Returns:
          uint8 (k, height, width, 3), a copy.
        """
        for index in indices[~self._filled[indices]]:
            self._pixels[index] = self._images[index]
            self._filled[index] = True  # last: another thread may take the pixels at once
        return self._pixels[indices]

    def __reduce__(self) -> tuple[Any, ...]:
        count, height, width, _ = self._pixels.shape
        return Cached, (self._images, count, (height, width))


def in_memory(images: Images) -> bool:
    """Whether they are an array or become one: a worker process would have a copy of its own."""
    return isinstance(images, np.ndarray | Cached)


def cached(source: Source, size: int, workers: int = 0) -> Source:
    """The source with its images kept once they are read, if that is worth it; else as it is.

    It is where images have one size, go to the device as they are, and take `CACHED_BYTES` at most.
    Of data sets that were joined each is judged by itself, and none is kept where worker processes
    read them: each would keep a copy.

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
