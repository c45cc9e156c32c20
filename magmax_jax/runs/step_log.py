"""Per-step metrics: lines of `metrics.jsonl`, and boards such as TensorBoard."""

import importlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from magmax_jax.errors import UserError
from magmax_jax.io import json_lines
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.step_lines import read_steps
from magmax_jax.training import Metrics

Board = Literal["tensorboard", "wandb"]
Write = Callable[[int, dict[str, float]], None]
"""Takes the run's step and its metrics by name."""


class StepLog:
    """Writes the metrics of each step. A context manager.

    A line holds `task` and its `step` (from 1), `total_step` of the whole run, the fields of
    `Metrics`, `seconds` since the previous line and `images_per_second`. These two are wall-clock
    times; everything else is the same in a repeated run. Values that are not finite become null.
    Losses arrive slightly late, and so do lines.

    Args:
      out: the run's directory; lines of steps beyond `done` are dropped, as those are repeated.
      done: number of the run's steps that its checkpoint covers.
      boards: also receive the numbers.
      name: of the run on the boards.
    """

    def __init__(
        self, out: RunDirectory, done: int = 0, boards: Sequence[Board] = (), name: str = "run"
    ):
        self._done = done
        self._last = time.perf_counter()
        self._file = None
        self._check = out.check_held
        self._writes: list[Write] = []
        if not out.writes:
            return
        kept = [line for line in read_steps(out.metrics) if line["total_step"] <= done]
        json_lines.write(out.metrics, kept)
        self._writes = [_BOARDS[board](out.path, name) for board in boards]
        self._file = out.metrics.open("a")

    def __enter__(self) -> "StepLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def __call__(self, task: int, step: int, metrics: Metrics[float], images: float) -> None:
        """Adds a step (from 0 within its task, tasks from 1) of `images` images on average."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        self._done += 1
        if not self._file:
            return
        self._check()
        numbers = {key: value for key, value in metrics._asdict().items() if value is not None}
        numbers |= {"seconds": seconds, "images_per_second": images / seconds}
        where = {"task": task, "step": step + 1, "total_step": self._done}
        # JSON cannot represent non-finite numbers.
        line = {key: value if math.isfinite(value) else None for key, value in numbers.items()}
        self._file.write(json_lines.to_text([where | line]))
        self._file.flush()
        for write in self._writes:
            write(self._done, {"task": task} | numbers)


def check_boards(boards: Sequence[Board]) -> None:
    """Raises a UserError if a board's package is not installed."""
    for board in boards:
        package = _PACKAGES[board]
        try:
            importlib.import_module(package)
        except ImportError:
            raise UserError(
                f"--boards {board} needs the package {package}: pip install {package}, or leave "
                "the board out"
            ) from None


def _tensorboard(directory: Path, name: str) -> Write:
    package = importlib.import_module(_PACKAGES["tensorboard"])
    board = package.SummaryWriter(str(directory / "tensorboard"))

    def write(step: int, numbers: dict[str, float]) -> None:
        for key, value in numbers.items():
            board.add_scalar(f"train/{key}", value, step)

    return write


def _wandb(directory: Path, name: str) -> Write:
    run = importlib.import_module(_PACKAGES["wandb"]).init(
        project="magmax_jax", name=name, dir=str(directory), resume="allow", id=name
    )
    return lambda step, numbers: run.log({f"train/{k}": v for k, v in numbers.items()}, step=step)


_BOARDS = {"tensorboard": _tensorboard, "wandb": _wandb}
_PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}
"""Imported only when asked for."""
