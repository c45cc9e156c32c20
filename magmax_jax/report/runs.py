"""Runs read from their directories: missing files read as empty, never as an error."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from magmax_jax.config import PRETRAINED, ExperimentConfig
from magmax_jax.errors import UserError
from magmax_jax.evaluation.counts_file import read_counts
from magmax_jax.evaluation.history import History, histories, task_names, whole_evaluations
from magmax_jax.evaluation.metrics import last_accuracy
from magmax_jax.evaluation.rows import Row
from magmax_jax.evaluation.scales import Scales
from magmax_jax.io import json_lines
from magmax_jax.registry import SCENARIO_KINDS
from magmax_jax.report.analyses import ANALYSES
from magmax_jax.report.choices import Choice, choices
from magmax_jax.report.items import Record
from magmax_jax.report.style import JOINT
from magmax_jax.runs.directory import RunDirectory, run_directories, scales_of
from magmax_jax.runs.file_names import ANALYSIS, CONFIG, METRICS
from magmax_jax.runs.model_ref import FINETUNED, ZERO_SHOT, ModelRef
from magmax_jax.runs.step_lines import read_steps


@dataclass(frozen=True)
class Run:
    """A run's directory, read lazily."""

    path: Path
    config: ExperimentConfig
    name: str = ""
    """Its name among the runs of a report."""

    @cached_property
    def rows(self) -> list[Row]:
        """The rows of evaluations that are whole."""
        return whole_evaluations(RunDirectory(self.path).rows())

    @cached_property
    def tasks(self) -> list[str]:
        return task_names(self.rows)

    @cached_property
    def agnostic(self) -> dict[str, History]:
        return histories(self.rows, "agnostic")

    @cached_property
    def aware(self) -> dict[str, History]:
        return histories(self.rows, "aware")

    def histories(self, protocol: str) -> dict[str, History]:
        return self.agnostic if protocol == "agnostic" else self.aware

    @property
    def labels(self) -> list[str]:
        """The models evaluated, zero_shot first."""
        return list(self.agnostic)

    @property
    def learned(self) -> int:
        """Number of tasks learned at the latest evaluation of all models."""
        return max((history.learned for history in self.agnostic.values()), default=0)

    @cached_property
    def best_merge(self) -> str | None:
        """The merge that classifies most test images correctly at the latest evaluation."""
        merges = [label for label in self.labels if ModelRef.parse(label).is_merge]
        return max(merges, key=self.last, default=None)

    @property
    def best(self) -> str:
        """The model to show in detail: the best merge, else the last fine-tuned one."""
        return self.best_merge or (FINETUNED if FINETUNED in self.labels else ZERO_SHOT)

    def shown(self, label: str) -> str:
        """A model's label in tables and figures: joint training has its own."""
        return JOINT if label == FINETUNED and self.config.method.joint else label

    def last(self, label: str) -> float:
        """Agnostic accuracy on all test images at the latest evaluation."""
        return last_accuracy(self.agnostic[label], weighted=True) or 0.0

    @cached_property
    def sweep(self) -> list[Row]:
        return RunDirectory(self.path).swept()

    @cached_property
    def scales(self) -> Scales:
        """Published and chosen scales of its merges."""
        return scales_of(self.about, self.sweep, self.rows)

    def beside(self, protocol: str) -> dict[str, History]:
        """The histories, including those of merges at chosen scales, which are known at the end."""
        return histories(self.scales.beside(self.rows), protocol)

    @cached_property
    def choices(self) -> Sequence[Choice]:
        """Its rules at published and at chosen scales; empty if none were chosen."""
        return choices(self.scales, self.beside("agnostic"))

    @property
    def chosen(self) -> Choice | None:
        """The rule and the scale that are best on held-out images."""
        rule = self.scales.best(SCENARIO_KINDS[self.config.scenario.kind].task_aware)
        return next((one for one in self.choices if one.rule == rule), None)

    @cached_property
    def steps(self) -> list[Record]:
        """Lines of metrics.jsonl."""
        return read_steps(self.path / METRICS)

    @cached_property
    def about(self) -> dict[str, Any]:
        """about.json; empty for a run older than this file."""
        return RunDirectory(self.path).read_about()

    def analysis(self, name: str) -> list[Record]:
        """The records of one analysis, up to the first damaged one; empty if it was not run."""
        sound = ANALYSES[name].is_sound
        return json_lines.read(self.path / ANALYSIS / f"{name}.jsonl", sound)

    def counts(self, label: str) -> dict[str, np.ndarray] | None:
        """Counts of a model's latest evaluation (`read_counts`), or None if none were kept.

        Raises:
          UserError: the file is damaged.
        """
        path = self.counts_file(label)
        return read_counts(path) if path.is_file() else None

    def counts_file(self, label: str) -> Path:
        """The file of a model's latest counts, whether or not it exists."""
        after = 0 if label == ZERO_SHOT else self.learned
        return RunDirectory(self.path).counts_of(after, label)

    @property
    def class_names(self) -> list[str] | None:
        return self.about.get("classes")


def independent(runs: Sequence[Run], seed: int | None, protocol: str) -> History | None:
    """`finetuned` of a run that learned each task alone; with that seed, if there is one."""
    alone = [r for r in runs if r.config.method.starts_from == PRETRAINED and FINETUNED in r.labels]
    alone.sort(key=lambda run: run.config.seed != seed)
    return alone[0].histories(protocol)[FINETUNED] if alone else None


def find(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """The evaluated runs in these folders, and notes on the others.

    Raises:
      UserError: a folder does not exist, or none of them holds an evaluated run.
    """
    runs, notes = collect(paths, lambda run: "" if run.tasks else "nothing is evaluated yet")
    if runs:
        return runs, notes
    where = ", ".join(map(str, paths))
    if notes:
        raise UserError(f"{where}: there is nothing to report yet ({'; '.join(notes)})")
    raise UserError(f"{where}: there is no run; give runs, or folders that contain some")


def collect(paths: Sequence[Path], lacking: Callable[[Run], str]) -> tuple[list[Run], list[str]]:
    """The runs in these folders, each once, and notes on those left out.

    Args:
      lacking: returns why a run is left out, or "" to keep it.

    Raises:
      UserError: a folder does not exist.
    """
    runs: dict[Path, Run] = {}
    notes: list[str] = []
    for path in paths:
        if not path.is_dir():
            raise UserError(
                f"{path}: there is no such folder; give runs, or folders that contain some"
            )
        for directory in run_directories(path):
            try:
                run = Run(directory, ExperimentConfig.from_file(directory / CONFIG))
            except UserError as error:
                notes.append(f"left out: {error}")
                continue
            if why := lacking(run):
                notes.append(f"left out, {why}: {directory}")
            else:
                runs.setdefault(directory.resolve(), run)
    return list(runs.values()), notes
