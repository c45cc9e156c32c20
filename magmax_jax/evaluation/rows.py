"""Rows: one measured accuracy each, as `results.jsonl` holds them one a line."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING

import numpy as np

from magmax_jax.io import json_lines

if TYPE_CHECKING:  # rows are read without JAX
    from magmax_jax.evaluation.evaluator import Counts
    from magmax_jax.scenarios import Scenario

DOMAIN = "domain:"
"""Before the names of groups that are domains, where these are not the tasks."""


@dataclass(frozen=True)
class Row:
    """One measured accuracy; `results.jsonl` holds one a line."""

    after_task: int
    """Tasks learned so far; 0 is the pretrained model."""
    model: str
    """zero_shot, finetuned (the last theta_t), or a rule's name."""
    scale: float | None
    """lambda of a merge, None where there is none."""
    protocol: str
    """agnostic (argmax over every class of the scenario) or aware (over the task's own)."""
    group: str
    """all, a task's name, or domain: and a domain's."""
    accuracy: float
    """In [0, 1]; of `all`, weighted by samples."""
    count: int
    """Samples."""
    top5: float | None = None
    """In [0, 1]: the share whose label is among the five likeliest classes of the protocol."""
    split: str = "test"
    """The images: test, or validation, which were held out of the training images."""
    chosen: str | None = None
    """On which split this scale was found to be the best of a sweep; None where it was given."""

    @property
    def label(self) -> str:
        """The model, and the scale where there is one: max_magnitude@0.5."""
        return self.model if self.scale is None else f"{self.model}@{self.scale:g}"

    @property
    def record(self) -> json_lines.Record:
        """As `results.jsonl` holds it. A run of 50 tasks has 20,000 rows, and every checkpoint all
        so far: `dataclasses.asdict` would take seconds for them."""
        return dict(vars(self))


def decides(row: Row, apart: bool) -> bool:
    """Whether a model is judged by this accuracy, or by the mean of several such.

    Args:
      apart: tasks have heads of their own: the mean of their accuracies within them decides, as
        for data sets in the literature; else the accuracy on all images among all classes.
    """
    return (row.protocol, row.group != "all") == ("aware" if apart else "agnostic", apart)


def protocols(rows: Iterable[Row]) -> tuple[str, ...]:
    """The protocols worth showing: agnostic, and aware where any of its accuracies differ.

    Where every task covers all classes, as in domain-incremental learning, a task's own classes are
    all classes, and each aware row repeats an agnostic one.
    """
    found: dict[str, dict[tuple, float]] = {"agnostic": {}, "aware": {}}
    for row in rows:
        where = row.after_task, row.label, row.group, row.split
        found[row.protocol][where] = row.accuracy
    differ = any(found["agnostic"].get(key) != value for key, value in found["aware"].items())
    return ("agnostic", "aware") if differ else ("agnostic",)


def has_top5(classes: int) -> bool:
    """Whether top-5 accuracy says anything: among at most five classes it is 100 % by definition.

    Args:
      classes: the number that labels are looked for among: of the scenario (agnostic), or of the
        task with the most (aware).
    """
    return classes > 5


def rows_of(
    counts: "Counts[np.ndarray]",
    scenario: "Scenario",
    after_task: int,
    model: str,
    scale: float | None,
    split: str = "test",
) -> Iterator[Row]:
    """The rows of one evaluation: both protocols; all samples, every task's and every domain's."""
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
    """Of test images, in the order of their rows."""
    domains = [f"{DOMAIN}{name}" for name in scenario.domain_names]
    return ["all", *(task.name for task in scenario.tasks), *domains]


def _in_groups(counts: np.ndarray) -> np.ndarray:
    """Counts (t, 1 + n, k) as those of `group_names`."""
    tasks, domains = counts.sum(axis=(1, 2)), counts.sum(axis=(0, 2))[1:]
    return np.concatenate([[counts.sum()], tasks, domains])


def num_rows_of_one(scenario: "Scenario") -> int:
    """How many rows one evaluation makes."""
    return 2 * len(group_names(scenario))


def num_rows(scenario: "Scenario", rounds: int, models: int) -> int:
    """Rows of a whole run: of the pretrained model, then of `models` in each of its rounds."""
    return (1 + rounds * models) * num_rows_of_one(scenario)


def read_rows(path: Path) -> list[Row]:
    """The rows of a file up to a torn line; none if there is no file."""
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
"""After which a row can be: histories have an entry for every task before it."""
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
