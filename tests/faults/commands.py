"""Commands that write, each with the folder that it starts from."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from safetensors.numpy import save_file

from magmax_jax.io.json_lines import to_text
from tests.conftest import save_tiny_clip

ROOT = Path(__file__).parents[2]
Words = tuple[str, ...]


def _all(name: str, content: bytes) -> bytes | None:
    return content


class Written(NamedTuple):
    """A command.

    Attributes:
      make: writes what it reads into an empty folder; runs in a process of its own.
      argv: its words, with paths from that folder.
      before: commands to run in that folder first.
      killed: whether the last of them is killed after two thirds of its writes.
      own: starts of the names of files that belong to the command, which it may change at any time.
      counts: given a file's name and content, the part that is the same in every undisturbed run;
        None for a file that `reads` is for.
      reads: commands that read what bytes do not show, and write it down.
      patch: changes this process, which has no network and no large archives.
    """

    make: Callable[[Path], None]
    argv: Words
    before: tuple[Words, ...] = ()
    killed: bool = False
    own: str | tuple[str, ...] = "."
    counts: Callable[[str, bytes], bytes | None] = _all
    reads: tuple[Words, ...] = ()
    patch: Callable[[Path], None] = lambda folder: None


def _model(folder: Path, value: float) -> None:
    folder.mkdir()
    weights = {f"layers.{i}.w": np.full((4, 6), value + i, np.float32) for i in range(3)}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text('{"model_type": "toy"}')
    (folder / "tokenizer.json").write_text('{"added_tokens": []}')


def _models(folder: Path) -> None:
    for name, value in (("base", 0.0), ("one", 0.5), ("two", -2.0)):
        _model(folder / name, value)


def _adapters(folder: Path) -> None:
    from tests.merge_files import adapters

    adapters.base(folder / "base")
    for seed, name in enumerate(("one", "two")):
        adapters.adapter(folder / name, seed=seed)


def _clip(folder: Path) -> None:
    save_tiny_clip(folder / "clip")


def _archives(folder: Path) -> None:
    """Small archives of gtsrb, in this process with a row of the catalogue that fits them."""
    from tests.data import archives

    archives.small("gtsrb", folder / "archives", pytest.MonkeyPatch())


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


_MERGE = ("merge", "--pretrained", "base", "--finetuned", "one", "two", "--quiet")
_FIRST = ("merge", "--pretrained", "base", "--finetuned", "one", "--quiet")
_STATE = ("--state", "state.safetensors")
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
COMMANDS = {
    "merge": Written(_models, (*_MERGE, "--output", "out")),
    "merge to a file": Written(_models, (*_MERGE, "--output", "out.safetensors")),
    "merge with ties": Written(_models, (*_MERGE, "--rule", "ties", "--output", "out")),
    "merge with companions": Written(
        _models, (*_MERGE, "--companions-from", "one", "--output", "out")
    ),
    "merge with a state": Written(_models, (*_MERGE, "--output", "out", *_STATE)),
    "merge to a file with a state": Written(
        _models, (*_MERGE, "--output", "out.safetensors", *_STATE)
    ),
    "merge into a state": Written(
        _models,
        ("merge", "--finetuned", "two", "--quiet", "--output", "out", *_STATE),
        before=((*_FIRST, "--output", "first", *_STATE),),
    ),
    "merge of adapters": Written(_adapters, (*_MERGE, "--output", "out")),
    "merge into an adapter": Written(_adapters, (*_MERGE, "--output", "out", "--lora-rank", "2")),
    "run": Written(_clip, (*_CLASS, *_SWEEP), own="run/", counts=of_run, reads=_READ),
    "run domain": Written(_clip, _DOMAIN, own="run/", counts=of_run, reads=_READ),
    "resume": Written(
        _clip, _CLASS, before=(_CLASS,), killed=True, own="run/", counts=of_run, reads=_READ
    ),
    "export": Written(_clip, _EXPORT, before=(_CLASS,)),
    "evaluate": Written(_clip, ("evaluate", "run", "--out", "evaluated"), before=(_CLASS,)),
    "evaluate with a sweep": Written(
        # The next command on a run takes over the lock of one that ended without releasing it.
        _clip,
        ("evaluate", "run", *_SWEEP),
        before=(_CLASS,),
        own=("run/sweep", "run/lock."),
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
    "prepare": Written(
        lambda folder: None,
        ("prepare", "gtsrb", "--data-dir", "data", "--manual-dir", "archives", "--repacked"),
        own="data/",
        patch=_archives,
    ),
}
