"""Commands on ever larger inputs: the cost of one more cell, row, source, file, class or task.

python -m benchmarks.load --output load.md
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from benchmarks import tables
from benchmarks.contenders import Whole, environment
from benchmarks.flags import Flags, command, matching
from benchmarks.machine import describe
from benchmarks.tables import Output, table
from magmax_jax.api.presets import TINY_CLIP
from magmax_jax.config import (
    CheckpointConfig,
    ExperimentConfig,
    ModelConfig,
    ScenarioConfig,
    TrainConfig,
)
from magmax_jax.evaluation.rows import Row
from magmax_jax.runs.directory import RunDirectory

TASKS = 5
MODULE = [sys.executable, "-P", "-m", "magmax_jax"]
LISTING = """
import sys
from magmax_jax.data.readers import folder
folder.common_shape = lambda paths: None  # the files are empty
print(len(folder.load_folder(sys.argv[1], "train")))
"""
COUNTS = """
import sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from magmax_jax.evaluation.counts import Counts, Predicted
from magmax_jax.evaluation.counts_file import read_counts, write_counts
classes, images = int(sys.argv[1]), 10 * int(sys.argv[1])
index = np.arange(images, dtype=np.int32)
label, guess = np.random.default_rng(0).integers(0, classes, (2, images), np.int32)
scenario = SimpleNamespace(
    test=SimpleNamespace(labels=label), task_of=label * 10 // classes, domain_of=0 * label - 1,
    tasks=(None,) * 10, domain_names=(), num_classes=classes,
)
counts = Counts.of(Predicted(index, guess, guess % 10, guess % 5), scenario)
file = Path(sys.argv[2]) / "counts.safetensors"
write_counts(file, counts)
print(len(read_counts(file)["confusions"]), file.stat().st_size)
"""
HEAD = """
import sys
from magmax_jax.api.presets import TINY_CLIP
from magmax_jax.models import CLIP, zero_shot_head
names = [f"class {i}" for i in range(int(sys.argv[1]))]
print(zero_shot_head(CLIP.from_pretrained(TINY_CLIP), names, ["a photo of a {}."]).shape)
"""
COMPARED = ("signs", "norms", "similarity", "provenance")
"""Studies of the task vectors alone."""


@dataclass(frozen=True, kw_only=True)
class Settings(Flags):
    """Times commands, each as a process of its own, on inputs of growing size."""

    repeats: int = 1
    """Timed calls per measurement; the table shows their median."""
    cells: tuple[int, ...] = (20, 200, 400)
    """Finished runs in one folder."""
    models: tuple[int, ...] = (1, 17, 34)
    """Merges of one run of 5 tasks; each adds 60 rows."""
    sources: tuple[int, ...] = (5, 50, 500)
    """Models merged at once."""
    files: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    """Empty images in one folder, 100 in a class."""
    classes: tuple[int, ...] = (100, 1_000, 10_000)
    """Classes, with 10 test images each where predictions are counted."""
    tasks: tuple[int, ...] = (5, 20, 80)
    """Tasks, of one step each, whose models are compared."""
    only: tuple[str, ...] = ("*",)
    """Shell patterns of measurements: table, watch, results, ..."""


def write_run(path: Path, config: ExperimentConfig) -> None:
    """A finished run with made-up accuracies, swept on validation images."""
    run = RunDirectory(path)
    run.start(config)
    merges = [(name, float(scale)) for name, _, scale in (m.partition("@") for m in config.merges)]
    models = [("finetuned", None), *merges]
    run.append(_rows(0, "zero_shot", None))
    run.append(row for t in range(1, TASKS + 1) for each in models for row in _rows(t, *each))
    run.keep_swept(
        row
        for scale in (0.3, 0.5, 0.7)
        for row in _rows(TASKS, *merges[0][:1], scale, "validation")
    )


def _rows(after: int, model: str, scale: float | None, split: str = "test") -> list[Row]:
    return [
        Row(after, model, scale, protocol, group, 0.5, 10, None, split)
        for protocol in ("agnostic", "aware")
        for group in ("all", *(f"task {number}" for number in range(1, TASKS + 1)))
    ]


def _config(seed: int, models: int = 1) -> ExperimentConfig:
    return ExperimentConfig(
        scenario=ScenarioConfig(num_tasks=TASKS, validation=0.1),
        merges=tuple(f"max_magnitude@{1 + i / 100:g}" for i in range(models)),
        seed=seed,
    )


def cells(folder: Path, number: int) -> None:
    for seed in range(number):
        write_run(folder / str(seed), _config(seed))


def rows(folder: Path, number: int) -> None:
    write_run(folder / "run", _config(0, number))


def sources(folder: Path, number: int) -> None:
    """Models of ten tensors of 1,000 numbers."""
    for i in range(number + 1):
        weights = {f"{k}.w": np.full((10, 100), i + k, np.float32) for k in range(10)}
        save_file(weights, folder / f"{i}.safetensors")


def files(folder: Path, number: int) -> None:
    for i in range(number):
        directory = folder / "train" / f"{i // 100:05d}"
        if i % 100 == 0:
            directory.mkdir(parents=True)
        (directory / f"{i}.png").touch()


def kept_tasks(folder: Path, number: int) -> None:
    """A run of the bundled CLIP that keeps the model of every task."""
    config = ExperimentConfig(
        model=ModelConfig(TINY_CLIP),
        scenario=ScenarioConfig(kind="data", dataset="digits", num_tasks=number),
        train=TrainConfig(epochs=1, batch_size=512),
        checkpoint=CheckpointConfig(keep_tasks=True),
        merges=("max_magnitude",),
        evaluate="last",
    )
    file = folder / "config.json"
    file.write_text(config.to_json())
    words = [*MODULE, "run", "--config", str(file), "--out", str(folder / "run")]
    subprocess.run(words, check=True, capture_output=True, env=environment())


def nothing(folder: Path, number: int) -> None:
    """There is no input on disk."""


@dataclass(frozen=True)
class Measured:
    """A command line on inputs of some sizes."""

    name: str
    of: str
    sizes: tuple[int, ...]
    make: Callable[[Path, int], None]
    words: Callable[[Path, int], Sequence[object]]


def measurements(chosen: Settings) -> list[Measured]:
    def merge(folder: Path, number: int, rule: str = "max_magnitude") -> list[object]:
        models = [folder / f"{i}.safetensors" for i in range(1, number + 1)]
        output = folder / f"merged-{number}.safetensors"
        words = ["merge", "--pretrained", folder / "0.safetensors", "--finetuned", *models]
        return [*MODULE, *words, "--output", output, "--rule", rule, "--quiet"]

    def by(rule: str) -> Measured:
        """A merge by a rule that collects all task vectors."""
        words = partial(merge, rule=rule)
        return Measured(f"merge by {rule}", "sources", chosen.sources, sources, words)

    def report(folder: Path, number: int) -> list[object]:
        return [*MODULE, "report", folder / "run", "--out", folder / "report"]

    def results(folder: Path, number: int) -> list[object]:
        return [*MODULE, "results", folder, "--split", "validation"]

    def once(folder: Path, number: int) -> list[object]:
        return [*MODULE, "watch", folder, "--once"]

    def shown(folder: Path, number: int) -> list[object]:
        return [*MODULE, "table", folder]

    def listed(folder: Path, number: int) -> list[object]:
        return [sys.executable, "-c", LISTING, folder]

    def counted(folder: Path, number: int) -> list[object]:
        return [sys.executable, "-c", COUNTS, number, folder]

    def headed(folder: Path, number: int) -> list[object]:
        return [sys.executable, "-c", HEAD, number]

    def studied(folder: Path, number: int) -> list[object]:
        return [*MODULE, "analyse", folder / "run", "--again", "--only", *COMPARED]

    return [
        Measured("table", "cells", chosen.cells, cells, shown),
        Measured("watch", "cells", chosen.cells, cells, once),
        Measured("results", "cells", chosen.cells, cells, results),
        Measured("report", "merges", chosen.models, rows, report),
        Measured("merge", "sources", chosen.sources, sources, merge),
        *map(by, ("ties", "della", "model_stock", "tsv_m", "consensus", "sce")),
        Measured("listing", "files", chosen.files, files, listed),
        Measured("counts", "classes", chosen.classes, nothing, counted),
        Measured("head", "classes", chosen.classes, nothing, headed),
        Measured("analyse", "tasks", chosen.tasks, kept_tasks, studied),
    ]


def run(settings: Settings) -> None:
    """Shows what each command takes, size by size.

    Raises:
      UserError: a setting is invalid.
    """
    output = Output(settings.output, describe())
    for one in matching(measurements(settings), settings.only):
        field = []
        for size in one.sizes:
            with tempfile.TemporaryDirectory() as scratch:
                one.make(Path(scratch), size)
                words = [str(word) for word in one.words(Path(scratch), size)]
                field.append(Whole(name=one.name, labels={one.of: size}, command=words))
                output.measure(field[-1:], settings.repeats)
        output.show(f"## {one.name}\n\n{_shown(one, field)}")


def _shown(one: Measured, field: Sequence[Whole]) -> str:
    """The table; "one more" compares with the line above."""

    def more(part: str, unit: float, digits: str) -> Callable[[Whole], str]:
        def cell(each: Whole) -> str:
            before = field[field.index(each) - 1] if field.index(each) else None
            if before is None or before.failure:
                return ""
            grown = each.labels[one.of] - before.labels[one.of]
            return format((each.median(part) - before.median(part)) / grown * unit, digits)

        return cell

    columns = {
        "CPU seconds": lambda each: f"{each.median('core_seconds'):.2f}",
        "one more, ms": more("core_seconds", 1e3, ".3f"),
        "peak memory": lambda each: tables.size(each.median("private")),
        "one more, kB": more("private", 1e-3, ".1f"),
    }
    return table({one.of: lambda each: f"{each.labels[one.of]:,}"}, columns, field)


main = command(Settings, run, "benchmarks.load", __doc__)

if __name__ == "__main__":
    sys.exit(main())
