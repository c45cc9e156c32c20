"""Evaluating models on test images: ours, the official way and the matrix products of the device.

python -m benchmarks.evaluate --peers PYTHON --output evaluate.md
"""

import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro

from benchmarks import peak
from benchmarks.choosing import check_positive, matching
from benchmarks.device import Device, ask
from benchmarks.evaluation_table import COLUMNS, Grid, Outcome, empty_row, row
from benchmarks.evaluation_work import (
    CLASSES,
    TORCH,
    Contender,
    Work,
    contenders,
    make_data,
    theta_0,
)
from benchmarks.machine import describe, peers_python, why_absent
from benchmarks.output import Output
from benchmarks.tables import markdown
from benchmarks.turns import take_turns
from magmax_jax.errors import UserError, exit_code


@dataclass(frozen=True)
class Settings:
    """Times evaluations, every accuracy of a model by all tasks, and a grid of models on all
    images. What is none depends on the device and the size."""

    size: Literal["vit-l14", "vit-b16", "tiny-clip", "small", "tiny"] = "vit-b16"
    """tiny-clip comes along (experiments/assets); small and tiny are for trials."""
    images: int | None = None
    """That are timed; none means 2 batches on a CPU and 10 elsewhere."""
    batch_size: int | None = None
    """None means 512; on a CPU 256, and of ViTs 32."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of the computation; none means float32 on a CPU, else bfloat16. The official way's is float32
    throughout, but for the compiled one's."""
    tasks: int = 10
    """Of the test images, each a pass of the official way; fewer where images are few batches."""
    at_once: int | None = None
    """Models that ours evaluates in one pass; none means 2 on a CPU and 5 elsewhere."""
    grid: tuple[int, int] = (10, 10_000)
    """Models and images of the whole evaluation."""
    at_most: float = 300.0
    """Seconds; a whole evaluation that would take longer is computed, not measured."""
    workers: int = min(len(os.sched_getaffinity(0)), 16)
    """Processes of the peers' loader."""
    repeats: int = 5
    """Of every measurement, whose median is told."""
    only: tuple[str, ...] = ("*",)
    """Shell patterns of contenders' names."""
    peak_sides: tuple[int, ...] = ()
    """Of the matrices whose product is the peak; none means large ones."""
    seed: int = 0
    work: Path | None = None
    """Directory for theta_0, which is used again (default: a temporary one)."""
    peers: Path = Path(sys.executable)
    """The python of an environment with torch and transformers."""
    output: Path | None = None
    """File for the table; every single run goes into a .jsonl beside it."""


def prepared(
    settings: Settings, work: Path, folder: Path, device: Device
) -> tuple[Work, Work, float]:
    """What is timed, the whole evaluation, and the operations of one image."""
    cpu, vit = device.platform == "cpu", settings.size.startswith("vit")
    batch_size = settings.batch_size or ((32 if vit else 256) if cpu else 512)
    images = settings.images or batch_size * (2 if cpu else 10)
    path, shape, preprocessing = theta_0(work, settings.size, settings.seed)

    def made(name: str, images: int, tasks: int) -> Work:
        data = make_data(folder / name, images, tasks, shape.projection, settings.seed)
        dtype = settings.dtype or ("float32" if cpu else "bfloat16")
        numbers = preprocessing.mean, preprocessing.std
        return Work(path, data, images, tasks, batch_size, dtype, device.platform, *numbers)

    timed = made("timed", images, min(settings.tasks, max(images // batch_size, 1)))
    return timed, made("grid", settings.grid[1], settings.tasks), shape.forward_flops()


def whole(settings: Settings, contender: Contender, work: Work, rate: float) -> Grid:
    """Measured in a process of its own, where `rate` (images/s) promises that it ends in time."""
    models, images = settings.grid
    expected = Grid(models * images / rate, measured=False)
    if expected.seconds > settings.at_most:
        return expected
    one = contender.on(work, settings.peers, models)
    one.limit = 60 + 3 * settings.at_most
    with one:
        one.call()
    return expected if one.failure else Grid(one.seconds[0], measured=True)


def run(settings: Settings) -> None:
    """Prints and writes the table.

    Raises:
      UserError: a setting cannot be right.
    """
    _check(settings)
    settings, device = replace(settings, peers=peers_python(settings.peers)), ask()
    at_once = settings.at_once or (2 if device.platform == "cpu" else 5)
    chosen = matching(contenders(at_once, settings.workers), settings.only)
    absent = why_absent(settings.peers, TORCH) if any(c.is_peer for c in chosen) else None
    present = [c for c in chosen if not (absent and c.is_peer)]
    with ExitStack() as stack:
        base = settings.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base.mkdir(parents=True, exist_ok=True)
        data = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=base)))
        timed, grid, need = prepared(settings, base.absolute(), data.absolute(), device)
        output = Output(settings.output, description(settings, device, timed, need))
        limit = peak.contestant(timed.dtype, settings.peak_sides)
        field = [contender.on(timed, settings.peers) for contender in present]
        *done, limit = take_turns([*field, limit], settings.repeats)
        flops = peak.rate(limit)
        output.record({"contender": "matmul peak", "flops": flops, "facts": limit.facts})
        outcomes, rows = {}, {c.name: empty_row(c.name, f"absent: {absent}") for c in chosen}
        for contender, contestant in zip(present, done, strict=True):
            if contestant.failure:
                why = f"failed: {contestant.failure}"
                rows[contender.name] = empty_row(contender.name, why)
                continue
            rates = [contender.models * timed.images / taken for taken in contestant.seconds]
            taken = whole(settings, contender, grid, statistics.median(rates))
            one = Outcome(contender.name, rates, taken, contestant.facts)
            output.record(one._asdict())
            outcomes[one.name] = one
        rows |= {
            name: row(one, need, flops, outcomes.get("ours"), timed.images)
            for name, one in outcomes.items()
        }
    output.show(f"The peak is {flops / 1e12:.3g} TFLOP/s in {timed.dtype}.")
    output.show(markdown(COLUMNS, list(rows.values())))


def _check(settings: Settings) -> None:
    check_positive(
        {
            "--images": settings.images,
            "--batch-size": settings.batch_size,
            "--at-once": settings.at_once,
            "--grid": settings.grid,
            "--repeats": settings.repeats,
            "--peak-sides": settings.peak_sides,
        }
    )
    if not 0 < settings.tasks <= min(CLASSES, settings.grid[1]):
        raise UserError(
            f"--tasks is {settings.tasks}: choose 1 to {CLASSES}, and no more than images"
        )


def description(settings: Settings, device: Device, timed: Work, need: float) -> dict[str, str]:
    models, images = settings.grid
    told = {
        "model": f"{settings.size}, {need / 1e9:.2f} GFLOP an image, {timed.dtype}",
        "timed": f"{timed.images:,} images in {timed.tasks} tasks, "
        f"batches of {timed.batch_size}, {settings.repeats} repeats",
        "grid": f"{models} models on {images:,} images in {settings.tasks} tasks",
        "the peers' loader": f"{settings.workers} processes",
    }
    return describe(settings.peers) | device.facts | told


def main(argv: Sequence[str] | None = None) -> int:
    settings = tyro.cli(Settings, args=argv, prog="benchmarks.evaluate", description=__doc__)
    return exit_code(lambda: run(settings))


if __name__ == "__main__":
    sys.exit(main())
