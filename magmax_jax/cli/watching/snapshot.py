"""Where a run stands, from what its directory holds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from magmax_jax.cli.watching.following import Contents, Step
from magmax_jax.config import ExperimentConfig
from magmax_jax.evaluation import metrics

State = Literal["starting", "training", "evaluating", "finished", "diverged"]
RECENT = 50
"""Steps over which speed is measured."""


@dataclass(frozen=True)
class Model:
    """Latest accuracies of one model, in [0, 1]; None where there is none."""

    label: str
    after: int
    """Tasks it had learned."""
    agnostic: float | None
    """On all test images, also of tasks to come, among all classes."""
    aware: float | None
    """On all test images, among the classes of each one's task."""
    change: float | None
    """Of `agnostic` since the evaluation before."""
    forgetting: float | None
    """Of the tasks so far, each counting the same (`metrics.forgetting`)."""


@dataclass(frozen=True)
class Snapshot:
    """Where a run stands. What its files do not tell (yet) is None."""

    path: Path
    state: State
    about: str
    """Scenario and method, in a line; empty where the files do not tell."""
    task: int
    """The one that is being learned or evaluated, from 1; 0 before the first."""
    tasks: int | None
    name: str
    """The task's."""
    step: int
    """Steps of the task that are done."""
    steps: int | None
    total_step: int
    """Steps of the run that are done."""
    total_steps: int | None
    evaluated: int
    """Models evaluated after this task."""
    num_models: int
    loss: float | None
    """Smoothed."""
    losses: tuple[float, ...]
    """Of every step of the task."""
    learning_rate: float | None
    images_per_second: float | None
    seconds_left_of_task: float | None
    """Of its training, when the last line was written."""
    seconds_left: float | None
    """Of the run."""
    counts_evaluations: bool
    """Whether `seconds_left` does; how long one takes is known from the second task on."""
    models: tuple[Model, ...]
    checkpoint: tuple[int, float] | None
    """The latest one's number, and when it was made, in seconds since the epoch."""
    written: float | None
    """When a line was added last, in seconds since the epoch."""

    @property
    def best(self) -> float | None:
        """The highest accuracy among all classes, of the models that learned."""
        learners = [m for m in self.models if m.label != "zero_shot"] or self.models
        return max((m.agnostic for m in learners if m.agnostic is not None), default=None)


def snapshot(contents: Contents) -> Snapshot:
    """Where the run stands that has written this."""
    models = _models(contents)
    learned: Sequence[dict[str, Any]] = (contents.about or {}).get("learned", [])
    steps, tasks = contents.steps, _num_tasks(contents, learned)
    last = steps[-1] if steps else None
    done = max((model.after for model in models), default=0)
    task = max(last.task if last else 0, done)
    step = last.step if last and last.task == task else 0
    total = _steps(learned, task)
    evaluated = sum(model.after == task for model in models if model.label != "zero_shot")
    expected = _num_models(contents)
    state: State = "training"
    if last and not math.isfinite(last.loss):
        state = "diverged"
    elif task == 0:
        state = "starting"
    elif evaluated >= expected:
        state = "finished" if task == tasks else "starting"
    elif done == task or step == total:
        state = "evaluating"
    if state == "starting":
        task, step, evaluated = task + 1, 0, 0
        steps, total = (), _steps(learned, task)
    total_steps = sum(entry["steps"] for entry in learned) if learned else None
    seconds = _seconds_a_step(contents.steps)
    pause = contents.pause
    left = None
    if seconds and total_steps and state != "finished":
        left = seconds * (total_steps - last.total_step)
        rounds = (tasks or task) - task + 1 - evaluated / expected
        left += (pause or 0) * rounds
    return Snapshot(
        path=contents.path,
        state=state,
        about=_about(contents),
        task=task,
        tasks=tasks,
        name=learned[task - 1]["name"] if 0 < task <= len(learned) else f"task {task}",
        step=step,
        steps=total,
        total_step=last.total_step if last else 0,
        total_steps=total_steps,
        evaluated=evaluated,
        num_models=expected,
        loss=_smoothed(steps),
        losses=tuple(step.loss for step in steps),
        learning_rate=steps[-1].learning_rate if steps else None,
        images_per_second=_images_a_second(steps),
        seconds_left_of_task=seconds * (total - step) if seconds and total else None,
        seconds_left=left,
        counts_evaluations=pause is not None,
        models=models,
        checkpoint=contents.checkpoint,
        written=contents.written,
    )


def _models(contents: Contents) -> tuple[Model, ...]:
    agnostic = metrics.histories(contents.rows, "agnostic")
    aware = metrics.histories(contents.rows, "aware")
    found = []
    for label, history in agnostic.items():
        after = history.learned
        now = metrics.last_accuracy(history, weighted=True)
        before = float(history.overall[after - 1]) if after else math.nan
        own = aware.get(label)
        found.append(
            Model(
                label,
                after,
                now,
                metrics.last_accuracy(own, weighted=True) if own else None,
                None if now is None or math.isnan(before) else now - before,
                metrics.forgetting(history.first(after), weighted=False) if after else None,
            )
        )
    return tuple(found)


def _num_tasks(contents: Contents, learned: Sequence[dict[str, Any]]) -> int | None:
    """How many are learned one after another."""
    if learned:
        return len(learned)
    if contents.config and contents.config.method.joint:
        return 1
    return len(metrics.task_names(contents.rows)) or None


def _num_models(contents: Contents) -> int:
    """How many are evaluated after each task.

    A run that does not tell has as many as its configuration names: merges.num_models would know
    better where a rule is named with its default scale and without, but takes JAX to ask.
    """
    told = (contents.about or {}).get("models")
    config = contents.config or ExperimentConfig()
    return told or 1 + (0 if config.method.joint else len(set(config.merges)))


def _steps(learned: Sequence[dict[str, Any]], task: int) -> int | None:
    return learned[task - 1]["steps"] if 0 < task <= len(learned) else None


def _about(contents: Contents) -> str:
    facts = []
    config = contents.config
    if contents.about and "scenario" in contents.about:
        facts.append(contents.about["scenario"])
    elif config and config.scenario.kind == "datasets":
        facts.append(", ".join(config.scenario.datasets))
    elif config:
        facts.append(f"{config.scenario.dataset}, {config.scenario.kind}-incremental")
    if config:
        method = config.method
        start = "sequential" if method.sequential else "independent"
        facts.append("joint training" if method.joint else f"{start} fine-tuning")
        if method.regularizer != "none":
            facts.append(method.regularizer)
    return "; ".join(facts)


def _smoothed(steps: Sequence[Step]) -> float | None:
    """The loss, as a run shows it in its own terminal."""
    if not steps:
        return None
    mean = steps[0].loss
    for step in steps[1:]:
        mean = 0.9 * mean + 0.1 * step.loss
    return mean


def _seconds_a_step(steps: Sequence[Step]) -> float | None:
    """Mean over the latest ones, without the longest: it compiled, or followed a resumption.

    A task's first step waited for evaluations, too, and never counts.
    """
    times = sorted(step.seconds for step in steps[-RECENT:] if step.step > 1)[:-1]
    return sum(times) / len(times) if times else None


def _images_a_second(steps: Sequence[Step]) -> float | None:
    seconds = _seconds_a_step(steps)
    if not seconds:
        return None
    return steps[-1].images_per_second * steps[-1].seconds / seconds
