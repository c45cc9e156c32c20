"""Groups of benchmarks for which a recipe is recommended: all, one, or those of a kind."""

from collections.abc import Iterator
from typing import NamedTuple

from magmax_jax.report.recipes.comparison import Comparison

FEW = 5
"""Largest number of tasks that counts as few."""


class Situation(NamedTuple):
    """A group of benchmarks, and what they have in common."""

    title: str
    benchmarks: list[str]


def situations(comparison: Comparison) -> list[Situation]:
    """All benchmarks, those of each kind, those with few and with many tasks, and each alone.

    A group that equals all benchmarks or a single one is not repeated.
    """
    everything = comparison.benchmarks
    grouped = [
        found for found in _grouped(comparison) if 1 < len(found.benchmarks) < len(everything)
    ]
    singles = [Situation(name, [name]) for name in everything]
    together = [Situation("all benchmarks", everything)] if len(everything) > 1 else []
    return [*together, *grouped, *singles]


def _grouped(comparison: Comparison) -> Iterator[Situation]:
    first = {t.benchmark: t for t in reversed(comparison.trained)}
    for kind in dict.fromkeys(t.kind for t in comparison.trained):
        yield Situation(kind, [b for b in comparison.benchmarks if first[b].kind == kind])
    tasks = {name: len(training.run.tasks) for name, training in first.items()}
    few = [name for name in comparison.benchmarks if tasks[name] <= FEW]
    yield Situation(f"up to {FEW} tasks", few)
    many = [name for name in comparison.benchmarks if tasks[name] > FEW]
    yield Situation(f"more than {FEW} tasks", many)
