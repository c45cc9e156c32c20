"""Whole merges in memory: a process for each size, rule and number of tasks, and their tables."""

import itertools
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.turns import Contestant

COLUMNS = [
    "", "tasks", "seconds", "runs", "of which folds", "seconds a task", "GB moved", "GB/s",
    "share of a copy", "peak memory", "state",
]  # fmt: skip
GROWTH = [
    "",
    "tasks",
    "seconds for one more task",
    "last over first",
    "peak memory, last over first",
]


@dataclass
class Cell:
    """One of them, and what came of it."""

    size: str
    rule: str
    tasks: int
    outcome: str = ""
    """Why there are no seconds, "ok" where there are."""
    folds: list[float] = field(default_factory=list)
    """Seconds of init and all folds, of every call that counts."""
    ends: list[float] = field(default_factory=list)
    """Seconds from then to theta."""
    parameters: int = 0
    moved: int = 0
    held: int = 0
    state: int = 0
    peak: int = 0
    compiling: bool = False
    """Whether the only call that counts is the first, which compiles."""

    @property
    def seconds(self) -> list[float]:
        return [a + b for a, b in zip(self.folds, self.ends, strict=True)]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Bounds:
    """What a cell may take."""

    repeats: int
    at_most: float
    """Seconds of a merge, and of all repeats of it but the first two."""
    memory: float
    """Bytes."""


def measure(
    cells: Iterable[Cell], bounds: Bounds, seed: int, known: Sequence[Cell] = ()
) -> Iterator[Cell]:
    """Fills in one cell after the other.

    The first call of a process compiles and does not count, unless it takes a third of `at_most`:
    then compiling is little of it, and it is the only one.

    Args:
      known: cells that have been measured, as of a smaller tower.
    """
    done = list(known)
    for cell in cells:
        settings = {"size": cell.size, "rule": cell.rule, "tasks": cell.tasks, "seed": seed}
        contender = Contestant(
            cell.rule,
            [sys.executable, "-m", "benchmarks.whole_merge"],
            settings,
            limit=60 + 3 * bounds.at_most,
        )
        with contender:
            _take(contender.facts, cell)
            cell.outcome = contender.failure or refused(cell, done, bounds) or "ok"
            skipped = _calls(contender, bounds) if cell.outcome == "ok" else 0
        _take(contender.facts, cell)
        cell.folds, cell.ends = cell.folds[skipped:], cell.ends[skipped:]
        cell.compiling = not skipped
        if contender.failure:
            cell.outcome = f"failed: {contender.failure}"
        done.append(cell)
        yield cell


def refused(cell: Cell, done: Sequence[Cell], bounds: Bounds) -> str | None:
    """Why it is not even tried: a sentence, or None.

    Args:
      done: cells whose rule's seconds a byte it is expected to take, at least.
    """
    if cell.held > bounds.memory:
        return f"does not fit: {cell.held / 1e9:.1f} GB of {bounds.memory / 1e9:.1f}"
    of_rule = [c for c in done if c.rule == cell.rule]
    if any(c.outcome.startswith("failed: >") and c.moved <= cell.moved for c in of_rule):
        return "not run: less of it has taken too long already"
    same = [c for c in of_rule if c.outcome == "ok"]
    expected = max((c.median * cell.moved / c.moved for c in same), default=0.0)
    if expected > bounds.at_most:
        return f"not run: {expected:.0f} s by extrapolation, more than {bounds.at_most:g}"
    return None


def _take(facts: dict[str, Any], cell: Cell) -> None:
    for name, value in facts.items():
        setattr(cell, name, value)


def _calls(contender: Contestant, bounds: Bounds) -> int:
    """Makes them; returns how many at the beginning do not count."""
    contender.call()
    if contender.failure or contender.seconds[0] > bounds.at_most / 3:
        return 0
    for _ in range(bounds.repeats):
        contender.call()
        if contender.failure or sum(contender.seconds) > bounds.at_most:
            break
    return 1


def row(cell: Cell, copy: float) -> list[str]:
    """Of the table of its size.

    Args:
      copy: bytes a second of the fastest copy, 0 where it is not known.
    """
    first = [cell.rule, str(cell.tasks)]
    if cell.outcome != "ok":
        return [*first, cell.outcome, *[""] * (len(COLUMNS) - 3)]
    rate = cell.moved / cell.median
    return [
        *first,
        f"{cell.median:.4g}",
        "1, compilation included" if cell.compiling else str(len(cell.seconds)),
        f"{statistics.median(cell.folds):.4g}",
        f"{cell.median / cell.tasks:.4g}",
        f"{cell.moved / 1e9:.2f}",
        f"{rate / 1e9:.2f}",
        f"{100 * rate / copy:.3g} %" if copy else "",
        f"{cell.peak / 1e9:.2f} GB",
        f"{cell.state / 1e9:.3f} GB",
    ]


def growth_rows(cells: Sequence[Cell]) -> list[list[str]]:
    """Of the cells of one size: by rule, what one more task takes between neighbouring numbers."""
    rows = []
    for rule in dict.fromkeys(cell.rule for cell in cells):
        of = sorted(
            (c for c in cells if c.rule == rule and c.outcome == "ok"), key=lambda c: c.tasks
        )
        if len(of) < 2:
            continue
        steps = [(b.median - a.median) / (b.tasks - a.tasks) for a, b in itertools.pairwise(of)]
        rows.append(
            [
                rule,
                " ".join(str(cell.tasks) for cell in of),
                " ".join(f"{step:.4g}" for step in steps),
                f"{steps[-1] / steps[0]:.2f}" if steps[0] > 0 else "",
                f"{of[-1].peak / of[0].peak:.2f}",
            ]
        )
    return rows
