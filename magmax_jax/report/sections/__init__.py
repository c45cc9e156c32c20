"""The report's chapters, in the order of the page; each is made from a group of runs."""

from collections.abc import Callable
from typing import NamedTuple

from magmax_jax.report.contents import Item
from magmax_jax.report.groups import Group
from magmax_jax.report.sections import (
    analysed,
    classes,
    conflicts,
    headline,
    influence,
    measured,
    over_tasks,
    provenance,
    pruning,
    reproduction,
    sweep,
    training,
    vectors,
)


class Section(NamedTuple):
    """A chapter: its id, its title, and what makes its contents."""

    name: str
    title: str
    items: Callable[[Group], list[Item]]


SECTIONS = (
    Section("summary", "In short", headline.items),
    Section("measures", "Measures", measured.items),
    Section("over-tasks", "Accuracy over tasks", over_tasks.curves),
    Section("matrices", "Accuracy matrices", over_tasks.matrices),
    Section("forgetting", "Forgetting", over_tasks.losses),
    Section("classes", "Classes", classes.items),
    Section("domains", "Domains", classes.domains),
    Section("training", "Training", training.items),
    Section("sweep", "Scales", sweep.items),
    Section("analyses", "Analyses", analysed.items),
    Section("conflicts", "Sign conflicts", conflicts.items),
    Section("pruning", "Pruning", pruning.items),
    Section("provenance", "Provenance", provenance.items),
    Section("vectors", "Task vectors", vectors.items),
    Section("influence", "Contribution, transfer", influence.items),
    Section("overhead", "Cost", influence.overhead),
    Section("config", "Configuration", reproduction.configuration),
    Section("reproduce", "How to reproduce", reproduction.items),
)
