"""Accuracy with the largest entries alone: the paper's first hypothesis."""

from magmax_jax.registry import REPORT_SECTIONS
from magmax_jax.report.axes import Axis
from magmax_jax.report.groups import Group
from magmax_jax.report.items import Figure, Item, Record
from magmax_jax.report.lines import line_charts
from magmax_jax.report.section import Section
from magmax_jax.report.sections.over_tasks import ACCURACY
from magmax_jax.report.sections.studies import absent, analysed, common
from magmax_jax.report.style import slug

CHOICES = ("largest", "random", "smallest")
KEPT = Axis("kept", "entries kept of each task vector, %", "root")


def items(group: Group) -> list[Item]:
    """Accuracy of single task vectors, each on its own task, and of merges of pruned ones."""
    records = [r for r in analysed(group, "pruning") if r["protocol"] == "agnostic"]
    missing = absent(group, "pruning")
    if not records:
        return missing
    found: list[Item] = []
    single = _mean_over_tasks([r for r in records if r["of"] == r["group"]])
    if single:
        caption = (
            "θ₀ plus a task vector of which a share is kept: agnostic accuracy on its own task, "
            "mean over tasks (square-root axis). The paper's hypothesis H1: a few of the largest "
            "entries have nearly all of the effect."
        )
        chart = Figure("pruning-tasks", "Single task vectors", caption, single)
        found += line_charts(chart, KEPT, ACCURACY, ("choice", CHOICES))
    merged = [r for r in records if r["group"] == "all" and r["of"] not in group.tasks]
    for rule in common(merged, "of"):
        mine = [r for r in merged if r["of"] == rule]
        caption = (
            f"The merge, at scale {mine[0]['scale']:g}, of task vectors of which a share is kept: "
            "agnostic accuracy on all test images (square-root axis)."
        )
        chart = Figure(slug("pruning", rule), rule, caption, mine)
        found += line_charts(chart, KEPT, ACCURACY, ("choice", CHOICES))
    return [*found, *missing]


def _mean_over_tasks(records: list[Record]) -> list[Record]:
    sums: dict[tuple, list[float]] = {}
    for r in records:
        sums.setdefault((r["run"], r["choice"], r["kept"]), []).append(r["accuracy"])
    return [
        {
            "run": run,
            "choice": choice,
            "kept": kept,
            "accuracy": sum(each) / len(each),
            "tasks": len(each),
        }
        for (run, choice, kept), each in sums.items()
    ]


REPORT_SECTIONS.register("pruning", Section("Pruning", 120, items))
