"""How images reach the training step: ahead of it or when it asks, and who resizes them.

python -m benchmarks.feeding --output feeding.md
"""

import os
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from PIL import Image

from benchmarks.choosing import check_positive
from benchmarks.limits import in_turn
from benchmarks.machine import machine, told_versions
from benchmarks.output import Output
from benchmarks.shapes import SIZES
from benchmarks.tables import markdown
from benchmarks.workloads import images, training
from magmax_jax.data import Batch, Preprocessing
from magmax_jax.errors import exit_code
from magmax_jax.training import fine_tune


@dataclass(frozen=True)
class Settings:
    """Times a loop of training steps whose batches lie on the host, and a resize of a batch."""

    size: Literal["vit-l14", "vit-b16", "small", "tiny"] = "small"
    """The tower that learns; images are resized to its side."""
    batch_size: int = 16
    steps: int = 8
    """Of the loop."""
    sides: tuple[int, ...] = (32, 224, 480)
    """Of the images that are resized, in pixels."""
    repeats: int = 5
    """Of every measurement, in turn; the medians are told."""
    output: Path | None = None
    """File for the tables; every single run goes into a .jsonl beside it."""


def loops(settings: Settings) -> dict[str, Callable[[], object]]:
    """The product's loop, and one that waits for each step before it asks for the next batch.

    A host that reads and sends a batch while the device computes hides the shorter of the two.
    """
    config = SIZES[settings.size].model
    work = training(config, settings.batch_size, _dtype())
    waiting = work.trainer._replace(
        step=lambda *arguments: jax.block_until_ready(work.trainer.step(*arguments))
    )

    def batches() -> Iterable[Batch]:
        for seed in range(settings.steps):
            yield images(settings.batch_size, config.vision.image_size, seed)

    def loop(trainer) -> Callable[[], object]:
        return lambda: fine_tune(trainer, work.theta, work.objective, batches())

    return {"ahead: the product's loop": loop(work.trainer), "when asked": loop(waiting)}


def resizes(settings: Settings, side: int) -> dict[str, Callable[[], object]]:
    """Ways from a batch of uint8 images on the host to normalised pixels on the device."""
    batch = images(settings.batch_size, side)
    to = SIZES[settings.size].model.vision.image_size
    preprocessing = Preprocessing(to)
    ours = jax.jit(preprocessing.evaluate)
    normalise = jax.jit(
        lambda pixels: (pixels / 255 - jnp.array(preprocessing.mean)) / jnp.array(preprocessing.std)
    )

    def of_jax(image: jax.Array) -> jax.Array:
        shape = (len(image), to, to, 3)
        return normalise(jax.image.resize(image.astype(jnp.float32), shape, "cubic"))

    def pillow(image: np.ndarray) -> np.ndarray:
        resized = Image.fromarray(image).resize((to, to), Image.Resampling.BICUBIC)
        return np.asarray(resized, np.float32)

    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    jitted = jax.jit(of_jax)
    return {
        "two products on the device": lambda: ours(batch.image, batch.box),
        "jax.image.resize on the device, of whole images": lambda: jitted(batch.image),
        "Pillow on the host, in threads": lambda: normalise(
            np.stack(list(pool.map(pillow, batch.image)))
        ),
    }


def _dtype() -> str:
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def _rows(taken: dict[str, list[float]], number: int) -> list[list[str]]:
    """A row for each way: seconds, images a second, times the first."""
    medians = {name: statistics.median(times) for name, times in taken.items()}
    first = next(iter(medians.values()))
    return [
        [name, f"{value:.4g}", f"{number / value:,.0f}", f"{value / first:.2f}"]
        for name, value in medians.items()
    ]


def run(settings: Settings) -> None:
    """Prints the tables, and writes them.

    Raises:
      UserError: a number is not positive.
    """
    check_positive(
        {
            "--batch-size": settings.batch_size,
            "--steps": settings.steps,
            "--sides": settings.sides,
            "--repeats": settings.repeats,
        }
    )
    found = told_versions("pillow")
    work = f"{settings.size}, batch {settings.batch_size}, {_dtype()}"
    description = {"versions": found, "device": jax.devices()[0].device_kind, "step": work}
    output = Output(settings.output, machine() | description)
    columns = ["", "seconds", "images/s", "times the first"]
    parts = {f"A loop of {settings.steps} steps": (loops(settings), settings.steps)}
    to = SIZES[settings.size].model.vision.image_size
    for side in settings.sides:
        parts[f"From {side} to {to} px"] = resizes(settings, side), 1
    for title, (calls, batches) in parts.items():
        taken = in_turn(calls, settings.repeats)
        output.record({"part": title, "seconds": taken})
        rows = _rows(taken, batches * settings.batch_size)
        output.show(f"## {title}\n\n{markdown(columns, rows)}")


def main(argv: Sequence[str] | None = None) -> int:
    settings = tyro.cli(Settings, args=argv, prog="benchmarks.feeding", description=__doc__)
    return exit_code(lambda: run(settings))


if __name__ == "__main__":
    sys.exit(main())
