"""Rows: one measured accuracy each, stored one per line in `results.jsonl`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING

import numpy as np

from magmax_jax.io import json_lines

if TYPE_CHECKING:  # rows are read without JAX
    from magmax_jax.evaluation.counts import Counts
    from magmax_jax.scenarios import Scenario

DOMAIN = "domain:"
"""Prefix of groups that are domains, if the tasks are not the domains."""


@dataclass(frozen=True)
class Row:
    """One measured accuracy; a line of `results.jsonl`."""

    after_task: int
    """Number of tasks learned so far; 0 is the pretrained model."""
    model: str
    """zero_shot, finetuned (the last theta_t), or a rule's name."""
    scale: float | None
    """lambda of a merge, None for other models."""
    protocol: str
    """agnostic (argmax over every class of the scenario) or aware (over the task's own)."""
    group: str
    """all, a task's name, or domain: and a domain's name."""
    accuracy: float
    """In [0, 1]; for `all`, weighted by samples."""
    count: int
    """Samples."""
    top5: float | None = None
    """In [0, 1]: the share whose label is among the protocol's five most likely classes."""
    split: str = "test"
    """The images: test, or validation, which were held out from the training images."""
    chosen: str | None = None
    """The split on which this scale was the best of a sweep; None if it was given."""

    @property
    def label(self) -> str:
        """The model, with its scale if any: max_magnitude@0.5."""
        return self.model if self.scale is None else f"{self.model}@{self.scale:g}"

    @property
    def record(self) -> json_lines.Record:
        """The row as in `results.jsonl`. A run of 50 tasks has 20,000 rows, and every checkpoint
        stores all so far: `dataclasses.asdict` would take seconds."""
        return dict(vars(self))


def decides(row: Row, apart: bool) -> bool:
    """Whether a model is judged by this accuracy, or by the mean of several such.

    Args:
      apart: tasks have separate heads: the mean of their accuracies within these decides, as for
        data sets in the literature; else the accuracy on all images among all classes.
    """
    return (row.protocol, row.group != "all") == ("aware" if apart else "agnostic", apart)


def protocols(rows: Iterable[Row]) -> tuple[str, ...]:
    """The protocols worth showing: agnostic, and aware if any of its accuracies differ.

    If every task covers all classes, as in domain-incremental learning, each aware row repeats an
    agnostic one.
    """
    found: dict[str, dict[tuple, float]] = {"agnostic": {}, "aware": {}}
    for row in rows:
        where = row.after_task, row.label, row.group, row.split
        found[row.protocol][where] = row.accuracy
    differ = any(found["agnostic"].get(key) != value for key, value in found["aware"].items())
    return ("agnostic", "aware") if differ else ("agnostic",)


def has_top5(classes: int) -> bool:
    """Whether top-5 accuracy is informative: among at most five classes it is always 100 %.

    Args:
      classes: number of candidate classes: the scenario's (agnostic), or that of the task with the
        most classes (aware).
    """
    return classes > 5


def rows_of(
    counts: "Counts",
    scenario: "Scenario",
    after_task: int,
    model: str,
    scale: float | None,
    split: str = "test",
) -> Iterator[Row]:
    """The rows of one evaluation: both protocols; over all samples, per task and per domain."""
    total = _in_groups(counts.total)
    for protocol in ("agnostic", "aware"):
        right = _in_groups(getattr(counts, protocol))
        near = _in_groups(getattr(counts, f"{protocol}_top5"))
        for group, *found in zip(group_names(scenario), right, near, total, strict=True):
            hits, top5, samples = map(int, found)
            yield Row(
                after_task=after_task,
                model=model,
                scale=scale,
                protocol=protocol,
                group=group,
                accuracy=hits / max(samples, 1),
                count=samples,
                top5=top5 / max(samples, 1),
                split=split,
            )


def group_names(scenario: "Scenario") -> list[str]:
    """Names of the groups of test images, in the order of their rows."""
    domains = [f"{DOMAIN}{name}" for name in scenario.domain_names]
    return ["all", *(task.name for task in scenario.tasks), *domains]


def _in_groups(counts: np.ndarray) -> np.ndarray:
    """Sums counts (t, 1 + n, k) into those of `group_names`."""
    tasks, domains = counts.sum(axis=(1, 2)), counts.sum(axis=(0, 2))[1:]
    return np.concatenate([[counts.sum()], tasks, domains])


def num_rows_of_one(scenario: "Scenario") -> int:
    """Number of rows of one evaluation."""
    return 2 * len(group_names(scenario))


def num_rows(scenario: "Scenario", rounds: int, models: int) -> int:
    """Number of rows of a run: the pretrained model's, then those of `models` in each round."""
    return (1 + rounds * models) * num_rows_of_one(scenario)


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, up to a truncated line; none if there is no file."""
    return to_rows(json_lines.read(path))


def to_rows(records: Iterable[json_lines.Record]) -> list[Row]:
    """Rows from their records, up to the first record that is not a row."""
    rows = []
    for record in records:
        try:
            row = Row(**record)
        except TypeError:
            break
        if not json_lines.has_fields(vars(row), _FIELDS) or not _is_in_range(row):
            break
        rows.append(row)
    return rows


def _is_in_range(row: Row) -> bool:
    known = row.protocol in ("agnostic", "aware") and row.split in ("test", "validation")
    return known and 0 <= row.after_task <= MOST_TASKS and 0 <= row.count < 2**53


MOST_TASKS = 1_000_000
"""Largest `after_task` of a row: histories have an entry for every task up to it."""
_FIELDS = {
    "after_task": (int,),
    "model": (str,),
    "scale": json_lines.NUMBER_OR_NONE,
    "protocol": (str,),
    "group": (str,),
    "accuracy": json_lines.NUMBER,
    "count": (int,),
    "top5": json_lines.NUMBER_OR_NONE,
    "split": (str,),
    "chosen": (str, NoneType),
}
