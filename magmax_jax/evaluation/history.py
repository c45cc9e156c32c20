"""The accuracies of a run's models over its tasks, read from its rows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from magmax_jax.evaluation.rows import DOMAIN, Row


class History(NamedTuple):
    """Accuracies of one model over a run, for one protocol.

    Attributes:
      label: finetuned, zero_shot, or RULE@SCALE.
      tasks: the names of the t tasks in learning order.
      accuracy: float64 (1 + T, t) in [0, 1], after 0..T tasks, on each task; row 0 is zero-shot
        accuracy; NaN where nothing was measured. T < t in an unfinished run, and T = 1 in joint
        training.
      overall: float64 (1 + T,), on all test images.
      counts: int64 (t,), number of test images of each task.
    """

    label: str
    tasks: tuple[str, ...]
    accuracy: np.ndarray
    overall: np.ndarray
    counts: np.ndarray

    @property
    def learned(self) -> int:
        """Number of tasks learned by the latest evaluation; 0 if none was after a task."""
        measured = np.flatnonzero(~np.isnan(self.overall))
        return int(measured[-1]) if measured.size else 0

    def first(self, tasks: int) -> "History":
        """The history if the scenario had ended after this many tasks, without later tasks."""
        accuracy = self.accuracy[: 1 + tasks, :tasks]
        counts = self.counts[:tasks]
        overall = accuracy @ (counts / counts.sum())
        return History(self.label, self.tasks[:tasks], accuracy, overall, counts)


def task_names(rows: Sequence[Row]) -> list[str]:
    """The tasks in learning order, as every evaluation lists them."""
    groups = dict.fromkeys(row.group for row in rows if _counts_here(row))
    return [group for group in groups if group != "all" and not group.startswith(DOMAIN)]


def histories(rows: Sequence[Row], protocol: str) -> dict[str, History]:
    """The history of every model by its label, in the order of the rows.

    Rows on validation images, and at scales chosen by a sweep, are left out.

    Args:
      rows: of one run, finished or not.
      protocol: agnostic or aware.
    """
    tasks = task_names(rows)
    used = [row for row in rows if _counts_here(row) and row.protocol == protocol]
    columns = {name: place for place, name in enumerate(["all", *tasks])}
    rounds = 1 + max((row.after_task for row in used), default=0)
    tables = {row.label: np.full((rounds, 1 + len(tasks)), np.nan) for row in used}
    counts = np.zeros(1 + len(tasks), np.int64)
    for row in used:
        if row.group in columns:
            place = columns[row.group]
            counts[place] = row.count
            at_zero = row.after_task == 0  # where every model starts
            for table in tables.values() if at_zero else [tables[row.label]]:
                table[row.after_task, place] = row.accuracy
    return {
        label: History(label, tuple(tasks), table[:, 1:], table[:, 0], counts[1:])
        for label, table in tables.items()
    }


def whole_evaluations(rows: Sequence[Row]) -> list[Row]:
    """The rows without those of evaluations that lack some of the first one's groups.

    All models are evaluated on the same groups with both protocols. A crash or a damaged file may
    leave a part of an evaluation; the first one is the pretrained model's.
    """
    found: dict[tuple[Any, ...], set[tuple[str, str]]] = {}
    for row in rows:
        found.setdefault(_evaluation(row), set()).add((row.protocol, row.group))
    first = next(iter(found.values()), set())
    groups = {group for _, group in first}
    if first != {(protocol, group) for protocol in ("agnostic", "aware") for group in groups}:
        return []
    if "all" not in groups or rows[0].after_task != 0:
        return []
    return [row for row in rows if found[_evaluation(row)] == first]


def _evaluation(row: Row) -> tuple[Any, ...]:
    return row.after_task, row.label, row.split, row.chosen


def _counts_here(row: Row) -> bool:
    return row.split == "test" and row.chosen is None
