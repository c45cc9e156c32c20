"""Runs of many tasks: predictions for the paper's size, and a small run measured.

python -m benchmarks.long_runs --output long.md
"""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import tables
from benchmarks.contenders import Whole
from benchmarks.flags import BeforeFlags, command
from benchmarks.machine import describe
from benchmarks.tables import Output, table
from magmax_jax.api.presets import TINY_CLIP, preset
from magmax_jax.config import ExperimentConfig

CLASSES, SIDE = 100, 32
"""Classes and sides (in pixels), as in CIFAR-100."""
BUILD = "the other build"
PAPER = "CLIP ViT-B/16 on CIFAR-100"


@dataclass(frozen=True, kw_only=True)
class Settings(BeforeFlags):
    """Times whole runs, evaluated after every task, after some, or after the last."""

    tasks: int = 50
    evaluate: tuple[str, ...] = ("every", "10", "last")
    """Values of --evaluate."""
    train: int = 20
    """Training images per class of the small run; 10 epochs, batches of 8."""
    test: int = 4
    """Test images per class: with a fifth of the number of training images, evaluation has the same
    share of the computation as on CIFAR-100."""
    time_limit: float = 900.0
    """Seconds; a run that takes longer is killed."""


def paper(settings: Settings, evaluate: str) -> ExperimentConfig:
    """The published recipe with that many tasks and a run's default merges."""
    return preset("class", scenario={"num_tasks": settings.tasks}, evaluate=named(evaluate))


def small(settings: Settings, evaluate: str, data: Path) -> ExperimentConfig:
    """The same with the bundled CLIP, on the images under `data`."""
    return paper(settings, evaluate).replace(
        model={"source": TINY_CLIP},
        scenario={"dataset": "folder", "data_dir": str(data)},
        train={"batch_size": 8, "learning_rate": 3e-4, "warmup_fraction": 0.1},
    )


def named(evaluate: str) -> str | int:
    return int(evaluate) if evaluate.isdecimal() else evaluate


def make_images(folder: Path, split: str, each: int) -> None:
    """`each` PNGs per class: noise around a picture specific to the class."""
    random = np.random.default_rng(each)
    for k in range(CLASSES):
        directory = folder / split / f"thing {k:02d}"
        directory.mkdir(parents=True)
        coarse = np.random.default_rng(k).integers(0, 256, (8, 8, 3), np.uint8)
        own = 0.7 * np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE)), np.float32)
        for i in range(each):
            noise = 0.3 * random.integers(0, 256, own.shape)
            Image.fromarray((own + noise).astype(np.uint8)).save(directory / f"{i}.png")


def contenders(settings: Settings, work: Path) -> list[Whole]:
    """`experiments.run` as users type it, for each value of --evaluate, and for the other build.
    Compiled programs are kept in `work`; the first run of each is an untimed warm-up."""
    config = small(settings, "every", work / "images")
    flags = {
        "model.source": config.model.source,
        "scenario.dataset": config.scenario.dataset,
        "scenario.data-dir": config.scenario.data_dir,
        "scenario.num-tasks": config.scenario.num_tasks,
        "train.batch-size": config.train.batch_size,
        "train.learning-rate": config.train.learning_rate,
        "train.warmup-fraction": config.train.warmup_fraction,
        "cache": work / "programs",
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]

    def run(name: str, *more: str, **variables: str) -> Whole:
        out = work / f"run of {name}"
        # -P: import the module from PYTHONPATH, not from the working directory.
        program = [sys.executable, "-P", "-m", "experiments.run", "class", *words]
        return Whole(
            name=name, command=[*program, *more, "--out", str(out)], limit=settings.time_limit,
            variables=variables, before=lambda: shutil.rmtree(out, ignore_errors=True),
            warmed_up=True,
        )  # fmt: skip

    field = [run(f"--evaluate {each}", "--evaluate", each) for each in settings.evaluate]
    if settings.before is not None:
        field.append(run(BUILD, PYTHONPATH=str(settings.before)))
    return field


def predicted(configs: Sequence[ExperimentConfig]) -> str:
    """A table of images and floating-point operations."""
    from magmax_jax.runs.estimate import data_size, estimate

    size = data_size(configs[0].scenario, configs[0].seed)
    found = [(config, estimate(config, size)) for config in configs]
    first = found[0][1].flops

    columns = {
        "training images": lambda one: f"{one[1].images:,}",
        "evaluated images": lambda one: f"{one[1].evaluated:,}",
        "PFLOP": lambda one: f"{one[1].flops / 1e15:,.4g}",
        "evaluation's share": lambda one: (
            f"{one[1].evaluated / (one[1].evaluated + 3 * one[1].images):.0%}"
        ),
        "of the first": lambda one: tables.ratio(one[1].flops, first),
    }
    return table({"": lambda one: f"--evaluate {one[0].evaluate}"}, columns, found)


def measured(field: Sequence[Whole]) -> str:
    """The table; ratios are relative to the first row and, if there is one, to the other build."""
    columns = {"seconds": tables.median(".1f")}
    bases = {"of the first": field[0]} | {f"of {BUILD}": o for o in field if o.name == BUILD}
    for name, one in bases.items():
        if not one.failure:
            columns[name] = lambda each, base=one: tables.ratio(each.median(), base.median())
    columns["seconds, all runs"] = tables.every(".1f")
    return table({"": tables.name}, columns, field)


def run(settings: Settings) -> None:
    """Shows predictions and measurements.

    Raises:
      UserError: a setting is invalid.
    """
    paper_runs = [paper(settings, each) for each in settings.evaluate]
    description = describe(before=settings.before) | {
        "the small run": f"the bundled CLIP, {settings.tasks} tasks of {CLASSES} classes, "
        f"{settings.train} training and {settings.test} test images each",
        "repeats": str(settings.repeats),
    }
    output = Output(settings.output, description)
    output.show(f"## Predicted: {PAPER} in {settings.tasks} tasks\n\n{predicted(paper_runs)}")
    with tempfile.TemporaryDirectory(prefix="long-runs-") as folder:
        data = Path(folder)
        make_images(data / "images", "train", settings.train)
        make_images(data / "images", "test", settings.test)
        small_runs = [small(settings, each, data / "images") for each in settings.evaluate]
        output.show(f"## Predicted: the small run\n\n{predicted(small_runs)}")
        field = contenders(settings, data)
        output.measure(field, settings.repeats)
    output.show(f"## Measured: the small run, whole processes\n\n{measured(field)}")


main = command(Settings, run, "benchmarks.long_runs", __doc__)

if __name__ == "__main__":
    sys.exit(main())
