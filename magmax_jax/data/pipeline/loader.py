"""Reads batches of one shape from a source into host memory, with Grain.

Grain handles only indices until a batch is complete; only then are its images read. Order and
padding are thus fixed before any decoding, and threads and processes cannot change them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import grain
import numpy as np

from magmax_jax.data.pipeline.decode import read
from magmax_jax.data.pipeline.memory_cache import Cached, in_memory
from magmax_jax.data.pipeline.workers import Reporting, in_workers
from magmax_jax.data.source import Source
from magmax_jax.inputs.geometry import CLIPS, Geometry
from magmax_jax.inputs.host_resize import Fit, for_evaluation, for_training

PREFETCHED_BATCHES = 4  # buffered by the threads of each process
THREADS = 4  # of each process


Array = TypeVar("Array")


class Batch(NamedTuple, Generic[Array]):
    """b images: a `Batch[np.ndarray]` on the host, a `Batch[jax.Array]` on devices.

    Padding rows are black, with a box of the whole image, label 0, index -1 and mask False.
    """

    image: Array
    """uint8 (b, H, W, 3), in [0, 255]."""
    box: Array
    """int32 (b, 4), [top, left, height, width] of each image's valid region."""
    label: Array
    """int32 (b,), the source's own class ids."""
    index: Array  # type: ignore[assignment]  # the usual name; tuple.index is not called
    """int32 (b,), positions in the source."""
    mask: Array
    """bool (b,), whether the row is a sample."""


def num_batches(count: int, batch_size: int, epochs: int = 1) -> int:
    """Number of batches for `count` samples; every epoch's last one is padded, never dropped."""
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
    threads: int = THREADS,
    geometry: Geometry = CLIPS,
    crops: bool = True,
) -> grain.IterDataset[Batch[np.ndarray]]:
    """`epochs` passes over source[indices], each in a different order.

    The same seed gives the same batches, whatever `workers` and `threads`, and whether or not
    images are cached. Iterators are Grain's: `get_state` and `set_state` resume mid-epoch. Images
    of one size are passed on unchanged unless they are very large (`host_resize.untouched`); others
    are shrunk to slightly more than `size` and placed on a common canvas (`host_resize.shrink`),
    for the device to crop.

    Args:
      indices: int (n,), positions in the source.
      seed: in [0, 2^32).
      size: the side length, in pixels, to which the device will resize.
      workers: processes that read images; 0 reads in threads of this one. A source that is in
        memory or cached there (`memory_cache.cached`) is always read in threads.
      rows: int (r,), the rows of each batch to read here, if other hosts read the others; all by
        default.
      threads: number of threads that read images, in this process or in each worker.
      geometry: the part of an image that evaluation sees, `Preprocessing.geometry`.
      crops: whether the device will crop at random; if not, images of several sizes are reduced to
        what evaluation sees.
    """
    # Grain hashes the seed; without that, seeds 5 and 6 would share all epochs but one.
    order = grain.MapDataset.range(len(indices)).seed(seed).shuffle()
    fit = for_training if crops else for_evaluation
    read_batch = _Read(source, fit(source.image_shape, size, geometry))
    return _batches(order, indices, read_batch, batch_size, epochs, workers, rows, threads)


def eval_batches(
    source: Source,
    indices: np.ndarray,
    batch_size: int,
    size: int,
    workers: int = 0,
    rows: np.ndarray | None = None,
    threads: int = THREADS,
    geometry: Geometry = CLIPS,
) -> grain.IterDataset[Batch[np.ndarray]]:
    """One pass over source[indices], in order.

    Images of one size are passed on unchanged unless they are very large; others are resized to
    (size, size) here, like in the model's image processor. Arguments are those of `train_batches`.
    """
    order = grain.MapDataset.range(len(indices))
    read_batch = _Read(source, for_evaluation(source.image_shape, size, geometry))
    return _batches(order, indices, read_batch, batch_size, 1, workers, rows, threads)


def _batches(
    order: grain.MapDataset,
    indices: np.ndarray,
    read_batch: "_Read",
    batch_size: int,
    epochs: int,
    workers: int,
    rows: np.ndarray | None,
    threads: int,
) -> grain.IterDataset[Batch[np.ndarray]]:
    rows = np.arange(batch_size) if rows is None else rows
    # Indices are looked up a batch at a time: Grain's own way takes 10 us per index.
    choose = partial(_choose, indices=np.asarray(indices), batch_size=batch_size, rows=rows)
    in_processes = workers > 0 and not in_memory(read_batch.source.images)
    read = Reporting(read_batch) if in_processes else read_batch
    batches = order.batch(batch_size, batch_fn=choose).repeat(epochs).map(read)
    # Decoding releases the GIL; copying does not.
    copies = isinstance(read_batch.source.images, np.ndarray) and read_batch.fit is None
    options = grain.ReadOptions(
        num_threads=0 if copies else threads, prefetch_buffer_size=PREFETCHED_BATCHES
    )
    dataset = batches.to_iter_dataset(options)
    return in_workers(dataset, workers, PREFETCHED_BATCHES) if in_processes else dataset


def _choose(
    order: Sequence[int], indices: np.ndarray, batch_size: int, rows: np.ndarray
) -> np.ndarray:
    """int32 (r,): the `rows` of a batch of indices[order], -1 in padding."""
    padded = np.full(batch_size, -1, np.int32)
    padded[: len(order)] = indices[np.asarray(order)]
    return padded[rows]


@dataclass(frozen=True)
class _Read:
    """Positions int32 (b,), -1 in padding, to a `Batch`."""

    source: Source
    fit: Fit | None
    """None if images are passed on unchanged."""

    def __call__(self, index: np.ndarray) -> Batch[np.ndarray]:
        mask = index >= 0
        chosen = index[mask]
        images, boxes = self._images(chosen)
        label = np.zeros(len(index), np.int32)
        label[mask] = self.source.labels[chosen]
        padding = len(index) - len(chosen)
        image = np.pad(images, [(0, padding), (0, 0), (0, 0), (0, 0)]) if padding else images
        # An empty box in padding would give NaN, which no mask removes from a gradient.
        box = np.tile(np.array([0, 0, *image.shape[1:3]], np.int32), (len(index), 1))
        if boxes is not None:
            box[mask] = boxes
        return Batch(image, box, label, index, mask)

    def _images(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """uint8 (len(chosen), H, W, 3), written once, and int32 boxes if they are not whole."""
        images, shape = self.source.images, self.source.image_shape
        if self.fit is not None:
            pixels = np.empty((len(chosen), self.fit.side, self.fit.side, 3), np.uint8)
            boxes = np.empty((len(chosen), 4), np.int32)
            for row, i in enumerate(chosen):
                pixels[row], boxes[row] = self.fit.apply(read(images, i, self.fit.least))
            return pixels, boxes
        if isinstance(images, np.ndarray):
            return images[chosen], None
        if isinstance(images, Cached):
            return images.rows(chosen), None
        if shape is None:
            raise ValueError("images of several sizes need a fit")
        pixels = np.empty((len(chosen), *shape, 3), np.uint8)
        for row, i in enumerate(chosen):
            pixels[row] = images[i]
        return pixels, None
