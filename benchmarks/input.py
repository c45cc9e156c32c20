"""Reading images versus training on them: how many workers keep up with a training step.

python -m benchmarks.input --output input.md
"""

import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.flags import Flags, command
from benchmarks.machine import describe
from benchmarks.tables import Output, table
from magmax_jax.data import Source, train_batches
from magmax_jax.data.pipeline.memory_cache import cached
from magmax_jax.data.readers.folder import ImageFiles
from magmax_jax.data.readers.tfds import Records

READERS = {"1 thread": (0, 1), "2 threads": (0, 2), "1 process": (1, 1), "2 processes": (2, 1)}
"""Number of worker processes, and threads of each (or of this process)."""


@dataclass(frozen=True)
class Settings(Flags):
    """Times reading several kinds of images, as training steps need them."""

    source: tuple[Literal["cached", "records", "middle", "large"], ...] = (
        "cached", "records", "middle", "large",
    )  # fmt: skip
    """Kinds of images to read."""
    small: int = 5000
    """Number of 32 x 32 images: as many as a CIFAR-100 task has. With fewer, Grain's shuffling
    takes longer per image: 40 us with 500."""
    photographs: int = 48
    """Number of JPEGs of each kind; epochs follow one another."""
    needed: float = 3796.0
    """Images per second that training consumes, as `benchmarks.train` measures (default: computed
    for ViT-B/16 at 224 px, 105 GFLOP per image at 4e14 per second)."""
    seconds: float = 1.0
    """Minimum duration of each repeat."""


class Kind(NamedTuple):
    """One kind of data: `make` takes a folder, `size` is the model's input in pixels, and batches
    are small if images are large, so that one batch does not take long. Cached images are read by
    threads only, others also by `processes`."""

    name: str
    make: Callable[[Settings, Path], Source]
    size: int
    batch_size: int
    processes: bool = True


def picture(random: np.random.Generator, height: int, width: int) -> Image.Image:
    """Noise with the 1/f spectrum of photographs, mostly grey: it compresses like them."""
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.hypot(down, across)
    frequency[0, 0] = np.inf  # zero mean
    shape = (4, *frequency.shape)
    waves = random.standard_normal(shape) + 1j * random.standard_normal(shape)
    grey, *colours = np.fft.irfft2(waves / frequency, (height, width))
    pixels = np.stack(colours, -1) / 4 + grey[..., None]
    pixels = 128 + 50 * pixels / pixels.std()
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def small_records(settings: Settings, folder: Path) -> Source:
    """32 x 32 PNGs, as TFDS stores CIFAR; in memory, because only decoding is measured."""
    random, n, records = np.random.default_rng(0), settings.small, []
    for _ in range(n):
        buffer = io.BytesIO()
        picture(random, 32, 32).save(buffer, "PNG")
        records.append({"image": buffer.getvalue()})
    images = Records("pictures", records, np.arange(n))
    return Source(images, np.zeros(n, np.int32), ("any",), image_shape=(32, 32))


def small_cached(settings: Settings, folder: Path) -> Source:
    source = cached(small_records(settings, folder), 32)
    source.images.rows(np.arange(settings.small))
    return source


def jpegs(least: tuple[int, int], most: tuple[int, int]) -> Callable[[Settings, Path], Source]:
    """Files of random sizes (height, width); `most` is exclusive."""

    def make(settings: Settings, folder: Path) -> Source:
        random, n = np.random.default_rng(0), settings.photographs
        paths = tuple(str(folder / f"{least[0]}-{i}.jpg") for i in range(n))
        for path in paths:
            picture(random, *random.integers(least, most).tolist()).save(path, quality=90)
        return Source(ImageFiles(paths), np.zeros(n, np.int32), ("any",))

    return make


KINDS = {
    "cached": Kind("32 x 32, cached", small_cached, 32, 128, processes=False),
    "records": Kind("32 x 32, PNG records", small_records, 32, 128),
    # Sizes of ImageNet and most photographs on the web, and of a camera.
    "middle": Kind("JPEG, 320 to 480 x 400 to 600", jpegs((320, 400), (480, 600)), 224, 16),
    "large": Kind("JPEG, 1500 x 2000", jpegs((1500, 2000), (1501, 2001)), 224, 8),
}


def read(settings: Settings, kind: Kind, source: Source, reader: str) -> list[float]:
    """Images per second of every repeat, after processes have started and the first batch came."""
    workers, threads = READERS[reader]
    forever = 1_000_000
    batches = train_batches(
        source, np.arange(len(source)), kind.batch_size, forever, 0, kind.size,
        workers=workers, threads=threads,
    )  # fmt: skip
    iterator, rates = iter(batches), []
    next(iterator)
    for _ in range(settings.repeats):
        images, start = 0, time.perf_counter()
        while (taken := time.perf_counter() - start) < settings.seconds:
            images += int(next(iterator).mask.sum())
        rates.append(images / taken)
    iterator.close()
    return rates


def reading_table(medians: Mapping[str, Mapping[str, float]], needed: float) -> str:
    """A row for every kind; the last column is how many of its fastest single workers `needed`
    takes.

    Args:
      medians: images per second by kind and reader.
    """

    def shown(reader: str) -> Callable[[str], str]:
        return lambda kind: (
            f"{medians[kind][reader]:,.0f}" if reader in medians[kind] else "by threads"
        )

    def workers(kind: str) -> str:
        alone = (medians[kind].get(reader, 0.0) for reader in ("1 thread", "1 process"))
        return f"{needed / max(alone):.1f}"

    columns = {"": str} | {reader: shown(reader) for reader in READERS}
    return table({}, columns | {"workers for the step": workers}, medians)


def run(settings: Settings) -> None:
    """Prints the table, and writes it."""
    description = describe(None, "grain", "pillow") | {
        "a step takes": f"{settings.needed:,.0f} images/s",
        "load": f"{os.getloadavg()[0]:.1f} before",
        "repeats": f"{settings.repeats} of at least {settings.seconds:g} s",
    }
    output, medians = Output(settings.output, description), {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in (KINDS[name] for name in settings.source):
            source, medians[kind.name] = kind.make(settings, Path(folder)), {}
            for reader, (workers, _) in READERS.items():
                if kind.processes or not workers:
                    rates = read(settings, kind, source, reader)
                    output.record({"name": kind.name, "reader": reader, "rates": rates})
                    medians[kind.name][reader] = statistics.median(rates)
    output.show("## Images a second that are read")
    output.show(reading_table(medians, settings.needed))


main = command(Settings, run, "benchmarks.input", __doc__)

if __name__ == "__main__":
    sys.exit(main())
