"""Progress of a run, read from its directory while another process or machine writes it."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from magmax_jax.config import ExperimentConfig
from magmax_jax.errors import UserError
from magmax_jax.evaluation.history import History, histories, task_names
from magmax_jax.evaluation.rows import Row, protocols, to_rows
from magmax_jax.io.json_lines import Follower, Record
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.file_names import CONFIG, METRICS, ROWS
from magmax_jax.runs.step_lines import is_step

State = Literal["diverged", "training", "evaluating", "starting", "finished"]
RECENT = 50
"""Number of steps over which speed is measured."""


@dataclass(frozen=True)
class Status:
    """Progress of a run. Fields that its files do not show (yet) are None."""

    path: Path
    state: State
    task: int
    """The task being learned or evaluated, from 1."""
    tasks: int | None
    step: int
    """Completed steps of the task."""
    steps: int | None
    loss: float | None
    """Loss of the task's latest step; None if it is not finite."""
    seconds_left: float | None
    """For the whole run; excludes evaluations until the first one has been timed."""
    agnostic: dict[str, History]
    """By the model's label."""
    aware: dict[str, History]
    """The same; empty where it repeats `agnostic`."""
    written: float
    """When the last line was added, in seconds since the epoch by this machine's clock."""


class RunFollower:
    """Reads one run's directory; each call of `look` reads only what is new."""

    def __init__(self, path: Path):
        self.path = path
        self._metrics, self._results = Follower(path / METRICS, is_step), Follower(path / ROWS)
        self._about: dict[str, Any] = {}
        self._rows: list[Row] = []
        self._histories: tuple[dict[str, History], dict[str, History]] | None = None  # of the rows
        self._steps: list[Record] = []  # of the latest task
        self._pause = 0.0  # seconds from the last step of a task that was evaluated to the next
        self._written: float | None = None  # None before the first look

    def look(self, now: float) -> Status:
        """Progress of the run at `now`, in seconds since the epoch."""
        again, steps = self._metrics.look()
        restarted, rows = self._results.look()
        if again:
            self._steps, self._pause = [], 0.0
        if restarted:
            self._rows = []
        if restarted or rows:
            self._histories = None
        if again or restarted:
            self._about = {}
        self._rows += to_rows(rows)
        self._about = RunDirectory(self.path).read_about() or self._about  # older runs have none
        expected = self._expected()
        for step in steps:
            if self._steps and (before := self._steps[-1]["task"]) != step["task"]:
                self._steps = []
                if before in expected.evaluated:
                    self._pause = step["seconds"]
            self._steps.append(step)
        if self._written is None:
            self._written = min(_modified(self.path), now)
        elif steps or rows:  # use this machine's clock: the other machine's may be wrong
            self._written = now
        return self._status(self._written, expected)

    def _status(self, written: float, expected: "_Expected") -> Status:
        learned, tasks = self._about.get("learned", []), expected.tasks
        if self._histories is None:
            apart = "aware" in protocols(self._rows)
            self._histories = (
                histories(self._rows, "agnostic"),
                histories(self._rows, "aware") if apart else {},
            )
        agnostic, aware = self._histories
        after = [history.learned for history in agnostic.values()]
        last = self._steps[-1] if self._steps else None
        task = max(last["task"] if last else 0, *after, 0)
        step = last["step"] if last and last["task"] == task else 0
        steps = learned[task - 1]["steps"] if 0 < task <= len(learned) else None
        models = expected.models if task in expected.evaluated else 0
        evaluated = after.count(task) if task else 0
        is_done = evaluated >= models if models else step == steps
        state: State = "training"
        if last and last["loss"] is None:
            state = "diverged"
        elif task == 0 or (is_done and task != tasks):
            state = "starting"
        elif is_done:
            state = "finished" if expected.has_chosen() else "evaluating"
        elif evaluated or step == steps:
            state = "evaluating"
        left, seconds = None, _seconds_per_step(self._steps)
        if last and seconds and learned and state != "finished":
            left = seconds * (sum(entry["steps"] for entry in learned) - last["total_step"])
            to_evaluate = sum(number >= task for number in expected.evaluated)
            left += self._pause * (to_evaluate - evaluated / expected.models)
        if state == "starting":
            last, step, task = None, 0, task + 1
            steps = learned[task - 1]["steps"] if learned else None
        return Status(
            path=self.path,
            state=state,
            task=task,
            tasks=tasks,
            step=step,
            steps=steps,
            loss=last["loss"] if last else None,
            seconds_left=left,
            agnostic=agnostic,
            aware=aware,
            written=written,
        )

    def _expected(self) -> "_Expected":
        """What the run will do, according to its configuration and `about.json`."""
        config = ExperimentConfig()
        with suppress(UserError):  # it does not exist yet, or is from another version
            config = ExperimentConfig.from_file(self.path / CONFIG)
        joint = config.method.joint
        models = 1 + (0 if joint else len(set(config.merges)))
        tasks = len(self._about.get("learned", []))
        tasks = tasks or (1 if joint else len(task_names(self._rows)))
        return _Expected(
            tasks or None,
            self._about.get("models", models),
            config.evaluated_after(tasks),
            partial(RunDirectory(self.path).has_chosen, config, tasks),
        )


class _Expected(NamedTuple):
    """What a run will do.

    Attributes:
      tasks: number of tasks to learn; None if not known yet.
      models: number of models per evaluation.
      evaluated: numbers of the tasks after which it evaluates.
      has_chosen: returns whether the final scales of its merges have been chosen.
    """

    tasks: int | None
    models: int
    evaluated: tuple[int, ...]
    has_chosen: Callable[[], bool]


def _seconds_per_step(steps: Sequence[Record]) -> float | None:
    """Mean over the latest steps except the longest, which compiled or followed a resumption.

    A task's first step is never counted, because it also waited for evaluations.
    """
    times = sorted(step["seconds"] for step in steps[-RECENT:] if step["step"] > 1)[:-1]
    return sum(times) / len(times) if times else None


def _modified(path: Path) -> float:
    """When the latest file of a run was written; 0.0 if that cannot be read."""
    with suppress(OSError, ValueError):
        files = [path / name for name in (METRICS, ROWS, CONFIG)]
        return max(file.stat().st_mtime for file in files if file.exists())
    return 0.0
