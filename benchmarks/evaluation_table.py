"""The table of evaluations: what came of every contender, and its row."""

import statistics
from typing import NamedTuple

from benchmarks.evaluation_work import differing
from benchmarks.turns import Facts


class Grid(NamedTuple):
    """What all models on all images take."""

    seconds: float
    measured: bool

    def __str__(self) -> str:
        return f"{self.seconds:,.1f}, 1 run" if self.measured else f"{self.seconds:,.0f}, computed"


class Outcome(NamedTuple):
    """What came of a contender that has not failed."""

    name: str
    rates: list[float]
    """Images a second, of every call."""
    grid: Grid
    facts: Facts

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


COLUMNS = [
    "", "images/s", "all runs", "share of the peak", "seconds for the grid", "times ours",
    "peak memory", "right predictions",
]  # fmt: skip


def row(one: Outcome, need: float, flops: float, ours: Outcome | None, images: int) -> list[str]:
    """Of the table.

    Args:
      need: operations of an image.
      flops: the peak.
      ours: that all are held against, None where it took no part.
      images: that were timed.
    """
    return [
        one.name,
        f"{one.rate:,.1f}",
        " ".join(f"{rate:,.1f}" for rate in one.rates),
        f"{one.rate * need / flops:.0%}",
        str(one.grid),
        f"{ours.rate / one.rate:.2f}" if ours else "",
        f"{one.facts['memory'] / 1e9:.2f} GB",
        differing(ours.facts["right"], one.facts["right"], images) if ours else "",
    ]


def empty_row(name: str, why: str) -> list[str]:
    """Of one that is absent or has failed."""
    return [name, why, *[""] * (len(COLUMNS) - 2)]
