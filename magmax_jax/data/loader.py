"""Batches of one shape, from a source to the host's memory, with Grain.

Grain passes positions about until a batch is complete; only then are its images read. Order and
padding are thus decided before any decoding, and threads and processes cannot change them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import grain
import numpy as np
from absl import flags

from magmax_jax.data.fitting import centre_square, shrink
from magmax_jax.data.sources import Source

PREFETCHED_BATCHES = 4  # held ready by the threads of each process


class Batch(NamedTuple):
    """b images, on the host. Padding rows are black, whole, of label 0, index -1 and mask False."""

    image: np.ndarray
    """uint8 (b, H, W, 3), in [0, 255]."""
    box: np.ndarray
    """int32 (b, 4), [top, left, height, width] of each image's valid region."""
    label: np.ndarray
    """int32 (b,), the source's own class ids."""
    index: np.ndarray
    """int32 (b,), positions in the source."""
    mask: np.ndarray
    """bool (b,), whether the row is a sample."""


def num_batches(count: int, batch_size: int, epochs: int = 1) -> int:
    """How many batches `count` samples make; every epoch's last one is padded, never dropped."""
    return epochs * math.ceil(count / batch_size)


def train_batches(
    source: Source,
    indices: np.ndarray,
    batch_size: int,
    epochs: int,
    seed: int,
    size: int,
    workers: int = 0,
    rows: np.ndarray | None = None,
) -> grain.IterDataset[Batch]:
    """`epochs` passes over source[indices], each in another order.

    The same seed gives the same batches, whatever `workers`. Iterators are Grain's: `get_state` and
    `set_state` resume one in the middle. Images of one size pass untouched; others are shrunk to
    somewhat above `size` and laid on a common canvas (`fitting.shrink`), for the device to crop.

    Args:
      indices: int (n,), positions in the source.
      seed: in [0, 2^32).
      size: the side in pixels to which the device will resize.
      workers: processes that read images; 0 reads in threads of this one.
      rows: int (r,), which rows of each batch to read, where other hosts read the others; all by
        default.
    """
    # A seed goes through Grain's hash; without, seeds 5 and 6 would share all epochs but one.
    positions = grain.MapDataset.source(_ints(indices)).seed(seed).shuffle()
    fit = partial(shrink, size=size)
    return _batches(positions, source, batch_size, epochs, workers, fit, rows)


def eval_batches(
    source: Source,
    indices: np.ndarray,
    batch_size: int,
    size: int,
    workers: int = 0,
    rows: np.ndarray | None = None,
) -> grain.IterDataset[Batch]:
    """One pass over source[indices], in order.

    Images of one size pass untouched; others are resized and cropped here to (size, size) as
    CLIPImageProcessor does. Arguments are those of `train_batches`.
    """
    positions = grain.MapDataset.source(_ints(indices))
    fit = partial(centre_square, size=size)
    return _batches(positions, source, batch_size, 1, workers, fit, rows)


def _batches(positions, source, batch_size, epochs, workers, fit, rows) -> grain.IterDataset[Batch]:
    rows = np.arange(batch_size) if rows is None else rows
    batches = (
        positions.batch(batch_size, batch_fn=partial(_pad, batch_size=batch_size, rows=rows))
        .repeat(epochs)
        .map(_Read(source, fit))
    )
    in_memory = isinstance(source.images, np.ndarray)
    threads = 0 if in_memory else PREFETCHED_BATCHES  # decoding releases the GIL, copying does not
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=PREFETCHED_BATCHES)
    dataset = batches.to_iter_dataset(options)
    if workers:
        # Grain 0.2.18 reads an absl flag here and fails where no absl.app parsed it (grain #1355).
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(workers, PREFETCHED_BATCHES))
    return dataset


def _ints(indices: np.ndarray) -> list[int]:
    return np.asarray(indices).tolist()


def _pad(positions: Sequence[int], batch_size: int, rows: np.ndarray) -> np.ndarray:
    padded = np.full(batch_size, -1, np.int32)
    padded[: len(positions)] = positions
    return padded[rows]


@dataclass(frozen=True)
class _Read:
    """Positions int32 (b,), -1 in padding, to a `Batch`."""

    source: Source
    fit: partial
    """Image of any size -> (image of one size, its box); for sources of mixed sizes."""

    def __call__(self, index: np.ndarray) -> Batch:
        mask = index >= 0
        chosen = index[mask]
        images, boxes = self._images(chosen)
        label = np.zeros(len(index), np.int32)
        label[mask] = self.source.labels[chosen]
        padding = len(index) - len(chosen)
        image = np.pad(images, [(0, padding), (0, 0), (0, 0), (0, 0)]) if padding else images
        # An empty box in the padding would turn into NaN, which no mask takes out of a gradient.
        box = np.tile(np.array([0, 0, *image.shape[1:3]], np.int32), (len(index), 1))
        if boxes is not None:
            box[mask] = boxes
        return Batch(image, box, label, index, mask)

    def _images(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        images = self.source.images
        if isinstance(images, np.ndarray):
            return images[chosen], None
        if not len(chosen):  # padding alone, which has a shape too
            shape = self.source.image_shape or self.fit(np.zeros((1, 1, 3), np.uint8))[0].shape[:2]
            return np.zeros((0, *shape, 3), np.uint8), None
        if self.source.image_shape:
            return np.stack([images[i] for i in chosen]), None
        fitted, boxes = zip(*(self.fit(images[i]) for i in chosen), strict=True)
        return np.stack(fitted), np.array(boxes, np.int32)
