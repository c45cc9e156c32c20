"""Evaluating models on test images: ours, the official way and the device's matrix products.

python -m benchmarks.evaluate --peers PYTHON --output evaluate.md
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks import tables
from benchmarks.checkpoints import make_checkpoints
from benchmarks.contenders import Served
from benchmarks.flags import PeersFlags, command, matching
from benchmarks.limits import matmul
from benchmarks.machine import ask, describe
from benchmarks.serving import Facts
from benchmarks.tables import Output, table
from benchmarks.workloads import SIZES
from magmax_jax.data import Preprocessing
from magmax_jax.devices.machine import usable_cores
from magmax_jax.errors import UserError

OURS, TORCH = "benchmarks.ours.evaluation:prepare", "benchmarks.peers.evaluate_torch:prepare"
CLASSES, SIDE = 100, 32
"""Classes and sides (in pixels) of the images, as in CIFAR-100."""


@dataclass(frozen=True)
class Settings(PeersFlags):
    """Times evaluations: every accuracy of a model on all tasks."""

    size: Literal["vit-l14", "vit-b16", "small", "tiny"] = "vit-b16"
    """small and tiny are for trials."""
    images: int | None = None
    """(default: 10 batches; on a CPU 2)."""
    batch_size: int | None = None
    """(default: 512; on a CPU 256, and of ViTs 32)."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Computation dtype, except for the official way (default: bfloat16; on a CPU float32)."""
    tasks: int = 10
    """Number of tasks, each one pass of the official way; fewer if there are few batches."""
    at_once: int | None = None
    """Models that ours evaluates in one pass (default: 5; on a CPU 2)."""
    workers: int = min(usable_cores(), 16)
    """Processes of the peers' loader."""
    peak_sides: tuple[int, ...] = ()
    """Sides of the square products that define the peak (default: sizes that fill the device)."""
    work: Path | None = None
    """Directory for theta_0, which is reused (default: a temporary one)."""


def fitted(settings: Settings, platform: str) -> Settings:
    """The settings with the platform's defaults filled in.

    Raises:
      UserError: there are more tasks than classes.
    """
    if settings.tasks > CLASSES:
        raise UserError(f"--tasks is {settings.tasks}: choose 1 to {CLASSES}")
    cpu, vit = platform == "cpu", settings.size.startswith("vit")
    batch_size = settings.batch_size or ((32 if vit else 256) if cpu else 512)
    images = settings.images or batch_size * (2 if cpu else 10)
    return replace(
        settings,
        batch_size=batch_size,
        images=images,
        tasks=min(settings.tasks, max(images // batch_size, 1)),
        dtype=settings.dtype or ("float32" if cpu else "bfloat16"),
        at_once=settings.at_once or (2 if cpu else 5),
    )


def work(settings: Settings, base: Path, data: Path, platform: str) -> Facts:
    """The input of all contenders, except models; fills `data`.

    images.npy uint8 (n, 32, 32, 3) and labels.npy int32 (n,), noise; classes.npy int32 (t, k / t),
    of each task; head.npy float32 (p, k). Tasks have equally many images, within one.

    Args:
      settings: from `fitted`.
      base: directory for theta_0.
    """
    random, n, t = np.random.default_rng(0), settings.images, settings.tasks
    k, config = CLASSES // t, SIZES[settings.size]
    classes = random.permutation(t * k).astype(np.int32).reshape(t, k)
    task_of = random.permutation(np.arange(n) % t)
    head = random.standard_normal((config.projection, t * k), np.float32)
    np.save(data / "images.npy", random.integers(0, 256, (n, SIDE, SIDE, 3), np.uint8))
    np.save(data / "labels.npy", classes[task_of, random.integers(0, k, n)])
    np.save(data / "classes.npy", classes)
    np.save(data / "head.npy", head / np.linalg.norm(head, axis=0))
    (path,) = make_checkpoints(base, settings.size, models=0)
    preprocessing = Preprocessing(config.vision.image_size)
    return {
        "model": str(path),
        "data": str(data),
        "batch_size": settings.batch_size,
        "dtype": settings.dtype,
        "platform": platform,
        "mean": preprocessing.mean,
        "std": preprocessing.std,
    }


def contenders(settings: Settings, work: Facts) -> list[Served]:
    """All contenders, ours first. Models are scaled theta_0: values do not affect speed."""

    def ours(name: str, models: int) -> Served:
        settings = work | {"scales": [1 - 0.01 * i for i in range(models)], "at_once": models}
        return Served(name=name, labels={"models": models}, function=OURS, settings=settings)

    def torch(name: str, **options: object) -> Served:
        asked = work | {"scales": [1.0], "workers": settings.workers} | options
        return Served(
            name=name, labels={"models": 1}, function=TORCH, settings=asked,
            python=settings.peers, needs="torch, transformers",
        )  # fmt: skip

    return [
        ours("ours", 1),
        ours(f"ours, {settings.at_once} models at once", settings.at_once),
        torch("official way", way="splits", compiled=False, dtype="float32"),
        torch("official way, compiled", way="splits", compiled=True),
        torch("torch, compiled, one pass", way="once", compiled=True),
    ]


def differing(ours: Sequence[Facts], theirs: Sequence[Facts], images: int) -> str:
    """How far the correct predictions of two contenders differ, for models that both evaluated."""
    largest = max(
        abs(a - b)
        for mine, other in zip(ours, theirs, strict=False)
        for protocol in ("agnostic", "aware")
        for a, b in zip(mine[protocol], other[protocol], strict=True)
    )
    return "equal" if not largest else f"up to {largest} images of a task, of {images:,} in all"


def rows(field: Sequence[Served], images: int, flops: float, peak: float) -> str:
    """The table.

    Args:
      images: number of images per model.
      flops: per image.
      peak: floating-point operations per second of the fastest large matrix product.
    """

    def rate(one: Served) -> float:
        return one.labels["models"] * images / one.median()

    ours = next((one for one in field if one.name == "ours" and not one.failure), None)
    columns = {
        "images/s": lambda one: f"{rate(one):,.1f}",
        "seconds, all runs": tables.every(".4g"),
        "share of the peak": lambda one: f"{rate(one) * flops / peak:.0%}",
        "times ours": lambda one: tables.ratio(ours and rate(ours), rate(one)),
        "peak memory": lambda one: tables.size(one.facts["memory"]),
        "right predictions": lambda one: (
            differing(ours.facts["right"], one.facts["right"], images) if ours else ""
        ),
    }
    return table({"": tables.name}, columns, field)


def run(settings: Settings) -> None:
    """Prints and writes the table.

    Raises:
      UserError: a setting is invalid.
    """
    device = ask()
    settings = fitted(settings, device.platform)
    matching(contenders(settings, {}), settings.only)  # a mistake is reported before any work
    flops = SIZES[settings.size].forward_flops()
    description = describe(settings.peers) | device.facts
    description |= {
        "model": f"{settings.size}, {flops / 1e9:.2f} GFLOP an image, {settings.dtype}",
        "timed": f"{settings.images:,} images in {settings.tasks} tasks, "
        f"batches of {settings.batch_size}, {settings.repeats} repeats",
        "the peers' loader": f"{settings.workers} processes",
    }
    output = Output(settings.output, description)
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary)
        given = work(settings, (settings.work or data).absolute(), data, device.platform)
        field = matching(contenders(settings, given), settings.only)
        limit = matmul(settings.dtype, device.platform, settings.peak_sides)
        output.measure([*field, limit], settings.repeats)
    if limit.failure:
        raise UserError(f"the limit is not known: {limit.failure}")
    peak = limit.median("flops")
    output.show(f"The peak is {peak / 1e12:.3g} TFLOP/s in {settings.dtype}.")
    output.show(rows(field, settings.images, flops, peak))


main = command(Settings, run, "benchmarks.evaluate", __doc__)

if __name__ == "__main__":
    sys.exit(main())
