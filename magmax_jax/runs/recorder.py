"""Writes evaluations into a run's directory, each exactly once, even across interruptions."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

import numpy as np

from magmax_jax.evaluation.counts import Counts, groups_shape
from magmax_jax.evaluation.counts_file import write_counts
from magmax_jax.evaluation.rows import Row, num_rows_of_one, rows_of
from magmax_jax.merging import merged_at
from magmax_jax.runs.build import RunParts
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.merge_specs import num_models
from magmax_jax.runs.model_ref import FINETUNED, ZERO_SHOT, ModelRef
from magmax_jax.runs.preemption import Stop
from magmax_jax.runs.progress import Progress
from magmax_jax.runs.refits import fitted_at, refitted_at
from magmax_jax.runs.shared_pass import count_all, models_held
from magmax_jax.runs.state import RunState
from magmax_jax.training import Params

Item = TypeVar("Item")


class Recorder:
    """Evaluates models and appends their rows, skipping rows already written before a resume.

    It restores rows from the run's checkpoint, in case the file lost them, and drops incomplete
    evaluations and those of work that will be repeated.
    """

    def __init__(
        self, parts: RunParts, out: RunDirectory, progress: Progress, stop: Stop, at: RunState
    ):
        self._parts, self._out, self._progress, self._stop = parts, out, progress, stop
        whole = num_rows_of_one(parts.scenario)
        models: dict[tuple, list[Row]] = {}
        for row in dict.fromkeys((*at.rows, *out.rows())):
            models.setdefault((row.after_task, row.model, row.scale), []).append(row)
        kept = {
            model: rows
            for model, rows in models.items()
            if len(rows) == whole and model[0] <= at.learned
        }
        self._known = set(kept)
        out.keep(row for rows in kept.values() for row in rows)

    def zero_shot(self) -> None:
        """Evaluates theta_0."""
        self._record(0, {ModelRef(ZERO_SHOT): lambda: self._parts.theta_0})

    def all(self, at: RunState) -> None:
        """Evaluates the fine-tuned model and every merge at every scale."""
        models: dict[ModelRef, Callable[[], Params]] = {ModelRef(FINETUNED): lambda: at.theta}
        for name, (rule, scales) in self._parts.merges.items():
            merge = merged_at(rule, at.states[name], self._parts.theta_0)
            models |= {ModelRef(name, scale): partial(merge, scale) for scale in scales}
        for name, refitted in self._parts.refits.items():
            rule = self._parts.merges[refitted.rule].rule
            plain = merged_at(rule, at.states[refitted.rule], self._parts.theta_0)
            at_scale = refitted_at(plain, fitted_at(name, at.refits))
            models |= {ModelRef(name, scale): partial(at_scale, scale) for scale in refitted.scales}
        self._record(at.learned, models)

    def _record(self, after_task: int, models: Mapping[ModelRef, Callable[[], Params]]) -> None:
        """Builds and evaluates the models whose rows are missing, together."""
        parts = self._parts
        missing = {
            ref: make
            for ref, make in models.items()
            if (after_task, ref.name, ref.scale) not in self._known
        }
        found = count_all(
            {str(ref): make for ref, make in missing.items()},
            parts.test,
            models_held(parts.theta_0, parts.layout),
            self._progress,
            partial(until, self._stop),
        )
        for ref, counts in zip(missing, found, strict=True):
            rows = list(rows_of(counts, parts.scenario, after_task, ref.name, ref.scale))
            if self._out.writes:
                self._out.check_held()
                write_counts(self._out.counts_of(after_task, rows[0].label), counts)
            self._out.append(rows)
            self._progress.say(f"  {rows[0].label:<24} {rows[0].accuracy:.1%}")


def counts_bytes(parts: RunParts) -> int:
    """Upper bound on the bytes of all of a run's evaluation counts."""
    groups, images = groups_shape(parts.scenario), parts.test.scenario.num_test
    classes = groups[-1]
    numbers = (len(Counts._fields) - 1) * math.prod(groups) + 3 * min(images, classes**2)
    rounds = len(parts.config.evaluated_after(len(parts.tasks)))
    evaluations = 1 + rounds * num_models(parts.config)
    return numbers * np.min_scalar_type(max(images, classes)).itemsize * evaluations


def until(stop: Stop, items: Iterable[Item]) -> Iterable[Item]:
    """Yields the items; raises Interrupted once the process is asked to stop."""
    for item in items:
        stop.check()
        yield item
