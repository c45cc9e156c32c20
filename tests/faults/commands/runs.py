"""Runs, and the commands that read one."""

import json
import os
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from magmax_jax.io.json_lines import to_text
from tests.conftest import save_tiny_clip
from tests.faults.commands.written import Written

ROOT = Path(__file__).parents[3]


def _clip(folder: Path) -> None:
    save_tiny_clip(folder / "clip")


def _archives(name: str, folder: Path) -> None:
    """A data set's small archives, in this process with a row of the catalogue that fits them."""
    from tests.data import archives

    archives.small(name, folder / "archives" / name, pytest.MonkeyPatch())


def _preparing(name: str) -> Written:
    argv = ("prepare", name, "--data-dir", "data", "--manual-dir", "archives", "--repacked")
    return Written(lambda folder: None, argv, own="data/", patch=partial(_archives, name))


def of_run(name: str, content: bytes) -> bytes | None:
    """A run's files without times of day and seconds; Orbax's own are read through `export`."""
    path = Path(name)
    if "checkpoints" in path.parts or "tasks" in path.parts:
        return None
    if path.name == "about.json":
        about = json.loads(content)
        del about["starts"]
        return json.dumps(about).encode()
    if path.name == "metrics.jsonl":
        lines = [json.loads(line) for line in content.splitlines()]
        timed = ("seconds", "images_per_second")
        return to_text({k: v for k, v in line.items() if k not in timed} for line in lines).encode()
    return content


def _small_grid(folder: Path) -> None:
    """A grid of one cell; each cell is a process of its own, in which nothing fails."""
    from magmax_jax.cli.grid.settings import GRIDS, Cell, Grid
    from magmax_jax.config import ExperimentConfig, ModelConfig, ScenarioConfig, TrainConfig

    config = ExperimentConfig(
        model=ModelConfig("clip"),
        scenario=ScenarioConfig(dataset="digits", num_tasks=2, limit_per_class=3),
        train=TrainConfig(epochs=1, batch_size=8),
        merges=(),
        eval_batch_size=32,
    )
    GRIDS["small"] = Grid("small", (lambda: [Cell("digits-2", "sequential", config)],))
    os.environ["PYTHONPATH"] = str(ROOT)


_SMALL = (
    "--model.source", "clip", "--scenario.limit-per-class", "5", "--scenario.validation", "0.2",
    "--train.epochs", "1", "--train.batch-size", "8", "--eval-batch-size", "32",
    "--merges", "max_magnitude", "--checkpoint.keep-tasks",
)  # fmt: skip
_SWEEP = ("--sweep.rules", "max_magnitude", "--sweep.scales", "0.5,1")
_CLASS = (
    "run", "class", *_SMALL, "--scenario.dataset", "digits", "--scenario.num-tasks", "2",
    "--out", "run",
)  # fmt: skip
_DOMAIN = ("run", "domain", *_SMALL, "--scenario.dataset", "digits_styles", "--out", "run")
_EXPORT = ("export", "run", "--output", "exported")
_READ = (_EXPORT, ("export", "run", "--output", "first", "--model", "task:1"))
RUNS = {
    "run": Written(_clip, (*_CLASS, *_SWEEP), own="run/", counts=of_run, reads=_READ),
    "run domain": Written(_clip, _DOMAIN, own="run/", counts=of_run, reads=_READ),
    "resume": Written(
        _clip, _CLASS, before=(_CLASS,), killed=True, own="run/", counts=of_run, reads=_READ
    ),
    "export": Written(_clip, _EXPORT, before=(_CLASS,)),
    "export of a task": Written(
        _clip, ("export", "run", "--output", "exported", "--model", "task:1"), before=(_CLASS,)
    ),
    "merge of a run": Written(
        _clip,
        (
            *("merge", "--pretrained", "run:zero_shot", "--finetuned", "run:task:1", "run:task:2"),
            *("--quiet", "--output", "out"),
        ),
        before=(_CLASS,),
    ),
    "evaluate": Written(_clip, ("evaluate", "run", "--out", "evaluated"), before=(_CLASS,)),
    "evaluate with a sweep": Written(
        _clip,
        ("evaluate", "run", *_SWEEP),
        before=(_CLASS,),
        own="run/sweep",
    ),
    "analyse": Written(
        _clip,
        ("analyse", "run", "--only", "signs", "norms"),
        before=(_CLASS,),
        own="run/analysis/",
    ),
    "report": Written(_clip, ("report", "run"), before=(_CLASS,), own="run/report/"),
    "table": Written(_clip, ("table", "run", "--output", "table.md"), before=(_CLASS,)),
    "results": Written(
        _clip, ("results", "run", "--output", "results.md"), before=((*_CLASS, *_SWEEP),)
    ),
    "grid": Written(
        _clip, ("grid", "small", "--out", "grid"), own="grid/", counts=of_run, patch=_small_grid
    ),
    "prepare": _preparing("gtsrb"),
}
if find_spec("tensorflow"):  # TFDS needs it to prepare all others
    RUNS |= {"prepare arrays": _preparing("cifar10"), "prepare folders": _preparing("eurosat")}
