"""Reading images against learning from them: images a second of a worker and of a training step.

python -m benchmarks.input --output input.md
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np
import tyro

from benchmarks.choosing import check_positive
from benchmarks.machine import machine, told_versions
from benchmarks.output import Output
from benchmarks.pictures import KINDS, Kind
from benchmarks.shapes import SIZES
from benchmarks.tables import markdown
from benchmarks.workloads import training
from magmax_jax.cli.presets import TINY_CLIP
from magmax_jax.data import Batch, Source, train_batches
from magmax_jax.errors import exit_code
from magmax_jax.models import CLIP

READERS = {"1 thread": (0, 1), "2 threads": (0, 2), "1 process": (1, 1), "2 processes": (2, 1)}
"""Worker processes, and threads of each (or of this one)."""


@dataclass(frozen=True)
class Settings:
    """Times reading images of several kinds, and the training steps that wait for them."""

    source: tuple[Literal["cached", "records", "middle", "whole", "large"], ...] = tuple(KINDS)
    """Kinds of images that are read."""
    model: tuple[str, ...] = (TINY_CLIP,)
    """CLIPs whose training step is timed here: directories or hub ids."""
    batch_size: int = 64
    """Of the training step."""
    flops: float = 4e14
    """Floating-point operations a second for which ViT-B/16's step is computed."""
    repeats: int = 5
    """Of every measurement, whose median is told."""
    seconds: float = 1.0
    """Each repeat of reading takes at least this long."""
    seed: int = 0
    output: Path | None = None
    """File for the tables; every single rate goes into a .jsonl beside it."""


class Rate(NamedTuple):
    """Images a second of one thing, every time it was measured."""

    name: str
    reader: str
    rates: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.rates)


def read(settings: Settings, kind: Kind, source: Source, reader: str) -> Rate:
    """Once processes have started and the first batch is there."""
    workers, threads = READERS[reader]
    forever = 1_000_000
    batches = train_batches(
        source, np.arange(len(source)), kind.batch_size, forever, settings.seed, kind.size,
        workers=workers, threads=threads,
    )  # fmt: skip
    iterator = iter(batches)
    next(iterator)
    rates = [_rate(iterator, settings.seconds) for _ in range(settings.repeats)]
    iterator.close()
    return Rate(kind.name, reader, rates)


def _rate(batches: Iterator[Batch], seconds: float) -> float:
    images, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < seconds:
        images += int(next(batches).mask.sum())
    return images / taken


def step(settings: Settings, model: str) -> Rate:
    """Training on one batch that is on the device already, preprocessing included."""
    clip = CLIP.from_pretrained(model)
    size, b = clip.config.vision.image_size, settings.batch_size
    trainer, theta, batch, objective = training(
        clip.config, b, "float32", tower=clip.image_tower("float32")
    )
    state, rates = trainer.init(theta), []
    for _ in range(1 + settings.repeats):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(trainer.step(state, batch, objective))
        rates.append(b / (time.perf_counter() - start))
    return Rate(f"{Path(model).name}, {size} px", "measured here, float32", rates[1:])


def computed(settings: Settings) -> Rate:
    """ViT-B/16's step, for a device that nobody has measured here."""
    need = 3 * SIZES["vit-b16"].model.forward_flops()
    how = f"computed, not measured: {need / 1e9:.0f} GFLOP / {settings.flops / 1e12:g} TFLOP/s"
    return Rate("CLIP ViT-B/16, 224 px", how, [settings.flops / need])


def rows(readings: Sequence[Rate], needed: float) -> list[list[str]]:
    """A row for every kind; last, how many of its fastest single worker keep up with `needed`."""
    table = []
    for name in dict.fromkeys(rate.name for rate in readings):
        medians = {rate.reader: rate.median for rate in readings if rate.name == name}
        shown = [f"{medians[r]:,.0f}" if r in medians else "by threads" for r in READERS]
        alone = max(medians[r] for r in ("1 thread", "1 process") if r in medians)
        table.append([name, *shown, f"{needed / alone:.1f}"])
    return table


def run(settings: Settings) -> None:
    """Prints the tables, and writes them.

    Raises:
      UserError: a number is not positive.
    """
    check_positive(
        {
            "--batch-size": settings.batch_size,
            "--flops": settings.flops,
            "--repeats": settings.repeats,
            "--seconds": settings.seconds,
        }
    )
    before, readings = os.getloadavg()[0], []
    with tempfile.TemporaryDirectory() as folder:
        for kind in (KINDS[name] for name in settings.source):
            source = kind.make(Path(folder), np.random.default_rng(settings.seed))
            readers = [r for r, (workers, _) in READERS.items() if kind.processes or not workers]
            readings += [read(settings, kind, source, reader) for reader in readers]
    need = computed(settings)
    steps = [*(step(settings, model) for model in settings.model), need]
    found = told_versions("grain", "pillow")
    description = machine() | {
        "versions": found,
        "device": jax.devices()[0].device_kind,
        "load": f"{before:.1f} before, {os.getloadavg()[0]:.1f} at the end",
        "repeats": f"{settings.repeats} of at least {settings.seconds:g} s",
    }
    output = Output(settings.output, description)
    for rate in (*readings, *steps):
        output.record(rate._asdict())
    output.show("## Images a second that are read")
    columns = ["", *READERS, "workers for ViT-B/16"]
    output.show(markdown(columns, rows(readings, need.median)))
    output.show("## Images a second that a training step takes")
    shown = [[rate.name, f"{rate.median:,.0f}", rate.reader] for rate in steps]
    output.show(markdown(["", "images/s", "how it is known"], shown))


def main(argv: Sequence[str] | None = None) -> int:
    settings = tyro.cli(Settings, args=argv, prog="benchmarks.input", description=__doc__)
    return exit_code(lambda: run(settings))


if __name__ == "__main__":
    sys.exit(main())
