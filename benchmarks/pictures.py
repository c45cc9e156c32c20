"""What benchmarks.input reads: sources of random pictures, encoded as those of data sets are."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from magmax_jax.data import Source
from magmax_jax.data.pipeline.memory_cache import cached
from magmax_jax.data.readers.folder import ImageFiles
from magmax_jax.data.readers.tfds import Records

SMALL, MIDDLE, LARGE = 5000, 96, 24
"""How many pictures of each kind are made; epochs follow one another. Small ones are as many as a
task of CIFAR-100 has: Grain's shuffling takes longer over fewer, 40 us an image over 500."""


@dataclass(frozen=True)
class Kind:
    """One kind of data.

    Attributes:
      name: in the table.
      make: (folder, generator) -> the source.
      size: of the model that it is fitted for, in pixels.
      batch_size: small where images are large, so that a batch is no long time.
      processes: whether worker processes read it; cached images are read by threads.
    """

    name: str
    make: Callable[[Path, np.random.Generator], Source]
    size: int
    batch_size: int
    processes: bool = True


class Whole:
    """Images of another view, without its way of decoding less of them."""

    def __init__(self, images: ImageFiles):
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._images[index]


def picture(random: np.random.Generator, height: int, width: int) -> Image.Image:
    """Noise with the spectrum of photographs, 1 over the frequency, mostly grey: it compresses as
    they do."""
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.hypot(down, across)
    frequency[0, 0] = np.inf  # no mean
    shape = (4, *frequency.shape)
    waves = random.standard_normal(shape) + 1j * random.standard_normal(shape)
    grey, *colours = np.fft.irfft2(waves / frequency, (height, width))
    pixels = np.stack(colours, -1) / 4 + grey[..., None]
    pixels = 128 + 50 * pixels / pixels.std()
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _records(folder: Path, random: np.random.Generator) -> Source:
    """PNGs of 32 x 32, as TFDS keeps CIFAR; in memory, for only the decoding is asked about."""
    records = []
    for _ in range(SMALL):
        buffer = io.BytesIO()
        picture(random, 32, 32).save(buffer, "PNG")
        records.append({"image": buffer.getvalue()})
    images = Records("pictures", records, np.arange(SMALL))
    return Source(images, np.zeros(SMALL, np.int32), ("any",), image_shape=(32, 32))


def _cached(folder: Path, random: np.random.Generator) -> Source:
    source = cached(_records(folder, random), 32)
    source.images.rows(np.arange(SMALL))
    return source


def _middle(folder: Path, random: np.random.Generator) -> Source:
    """ImageNet's and most photographs' on the web."""
    sizes = zip(random.integers(320, 480, MIDDLE), random.integers(400, 600, MIDDLE), strict=True)
    return _files(folder / "middle", [picture(random, *map(int, size)) for size in sizes])


def _large(folder: Path, random: np.random.Generator) -> Source:
    """A camera's."""
    return _files(folder / "large", [picture(random, 1500, 2000) for _ in range(LARGE)])


def _large_whole(folder: Path, random: np.random.Generator) -> Source:
    source = _large(folder, random)
    return Source(Whole(source.images), source.labels, source.class_names)


def _files(folder: Path, pictures: list[Image.Image]) -> Source:
    folder.mkdir(exist_ok=True)
    paths = tuple(str(folder / f"{i}.jpg") for i in range(len(pictures)))
    for path, image in zip(paths, pictures, strict=True):
        image.save(path, quality=90)
    return Source(ImageFiles(paths), np.zeros(len(paths), np.int32), ("any",))


KINDS = {
    "cached": Kind("32 x 32, cached", _cached, 32, 128, processes=False),
    "records": Kind("32 x 32, PNG records", _records, 32, 128),
    "middle": Kind("JPEG, 320 to 480 x 400 to 600", _middle, 224, 16),
    "whole": Kind("JPEG, 1500 x 2000, every pixel", _large_whole, 224, 8),
    "large": Kind("JPEG, 1500 x 2000, scaled decoding", _large, 224, 8),
}
