"""The report's chapters, in the order of the page; each is made from a group of runs."""

from collections.abc import Callable
from typing import NamedTuple

from magmax_jax.report.groups import Group
from magmax_jax.report.items import Item
from magmax_jax.report.sections import (
    classes,
    conflicts,
    metrics,
    over_tasks,
    provenance,
    pruning,
    reproducibility,
    studies,
    summary,
    sweep,
    training,
    transfer,
    vectors,
)


class Section(NamedTuple):
    """A chapter: its id, its title, and what makes its contents."""

    name: str
    title: str
    items: Callable[[Group], list[Item]]


SECTIONS = (
    Section("summary", "In short", summary.items),
    Section("measures", "Measures", metrics.items),
    Section("over-tasks", "Accuracy over tasks", over_tasks.curves),
    Section("matrices", "Accuracy matrices", over_tasks.matrices),
    Section("forgetting", "Forgetting", over_tasks.losses),
    Section("classes", "Classes", classes.items),
    Section("domains", "Domains", classes.domains),
    Section("training", "Training", training.items),
    Section("sweep", "Scales", sweep.items),
    Section("analyses", "Analyses", studies.items),
    Section("conflicts", "Sign conflicts", conflicts.items),
    Section("pruning", "Pruning", pruning.items),
    Section("provenance", "Provenance", provenance.items),
    Section("vectors", "Task vectors", vectors.items),
    Section("influence", "Contribution, transfer", transfer.items),
    Section("overhead", "Cost", transfer.overhead),
    Section("config", "Configuration", reproducibility.configuration),
    Section("reproduce", "How to reproduce", reproducibility.items),
)
