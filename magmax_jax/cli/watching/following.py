"""Reading a run's files again and again, while another process, perhaps elsewhere, writes them."""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from magmax_jax.cli.watching.lines import JsonLines
from magmax_jax.config import ExperimentConfig
from magmax_jax.errors import UserError
from magmax_jax.evaluation.rows import Row
from magmax_jax.runs.directory import ABOUT, CHECKPOINTS, CONFIG, METRICS, ROWS


class Step(NamedTuple):
    """A step of training, as a line of `metrics.jsonl` has it.

    Attributes:
      task, step: from 1, the step within its task; total_step: within the run.
      loss: what was minimised.
      learning_rate: of this step.
      seconds: since the line before it.
      images_per_second: in these seconds.
    """

    task: int
    step: int
    total_step: int
    loss: float
    learning_rate: float
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class Contents:
    """What a run's directory holds at a moment; a run that has hardly begun lacks much of it."""

    path: Path
    config: ExperimentConfig | None = None
    about: dict[str, Any] | None = None
    """about.json; older runs lack it."""
    rows: tuple[Row, ...] = ()
    steps: tuple[Step, ...] = ()
    """Of the latest task alone."""
    pause: float | None = None
    """Seconds between the last step of the task before and the first one of this: evaluations."""
    checkpoint: tuple[int, float] | None = None
    """The latest one's number, and when it was made, in seconds since the epoch."""
    written: float | None = None
    """When a line was added last, in seconds since the epoch by this machine's clock."""


class Follower:
    """Reads one run's directory, at each look what is new in it."""

    def __init__(self, path: Path):
        self.path = path
        self._metrics, self._results = JsonLines(path / METRICS), JsonLines(path / ROWS)
        self._config: ExperimentConfig | None = None
        self._about: dict[str, Any] | None = None
        self._rows: list[Row] = []
        self._steps: list[Step] = []
        self._pause: float | None = None
        self._written: float | None = None
        self._looked: float | None = None

    def look(self, now: float) -> Contents:
        """What is there at this moment.

        Args:
          now: seconds since the epoch.
        """
        again, steps = self._metrics.look()
        anew, rows = self._results.look()
        if again:
            self._steps, self._pause = [], None
        if anew:
            self._rows = []
        if again or anew:
            self._config = self._about = None
        for record in steps:
            self._add_step(record)
        self._rows += _rows(rows)
        self._note_time(now, bool(steps or rows))
        self._config = _config(self.path) or self._config
        self._about = _json(self.path / ABOUT) or self._about
        return Contents(
            self.path,
            self._config,
            self._about,
            tuple(self._rows),
            tuple(self._steps),
            self._pause,
            _checkpoint(self.path),
            self._written,
        )

    def _add_step(self, record: dict[str, Any]) -> None:
        try:
            # null stands for what is not finite.
            values = (record[name] for name in Step._fields)
            step = Step(*(math.nan if value is None else value for value in values))
        except KeyError:
            return
        if self._steps and self._steps[-1].task != step.task:
            self._steps, self._pause = [], step.seconds
        self._steps.append(step)

    def _note_time(self, now: float, news: bool) -> None:
        """When the files say so; but news since the last look is no older than that look.

        The other machine's clock may be behind, and ahead of, this one's.
        """
        times = [_modified(self.path / name) for name in (METRICS, ROWS, CONFIG)]
        latest = min(max(times), now)
        if self._looked is None:
            self._written = latest or None
        elif news:
            self._written = max(latest, self._looked)
        self._looked = now


def _rows(records: list[dict[str, Any]]) -> Iterator[Row]:
    for record in records:
        try:
            yield Row(**record)
        except TypeError:
            return


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _config(path: Path) -> ExperimentConfig | None:
    """None where there is none, or one of another version of this program."""
    try:
        return ExperimentConfig.from_file(path / CONFIG)
    except UserError:
        return None


def _checkpoint(path: Path) -> tuple[int, float] | None:
    """Of the latest one that is whole: those being written have longer names."""
    try:
        numbers = [int(name) for name in os.listdir(path / CHECKPOINTS) if name.isdecimal()]
    except OSError:
        return None
    latest = max(numbers, default=None)
    return None if latest is None else (latest, _modified(path / CHECKPOINTS / str(latest)))


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
