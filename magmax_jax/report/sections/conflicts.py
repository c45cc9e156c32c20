"""Sign conflicts between task vectors: the paper's second hypothesis."""

from magmax_jax.registry import REPORT_SECTIONS
from magmax_jax.report.axes import Axis
from magmax_jax.report.groups import Group
from magmax_jax.report.items import Column, Figure, Item, Record, Table, percent, whole
from magmax_jax.report.lines import line_charts
from magmax_jax.report.section import Section
from magmax_jax.report.sections.studies import absent, analysed, common

KEPT_SHOWN = (1.0, 0.2, 0.05)
"""Kept shares that are drawn as lines over the tasks."""


def items(group: Group) -> list[Item]:
    """Conflicts over the number of tasks, over the share kept, and by kind of weight."""
    records = analysed(group, "signs")
    missing = absent(group, "signs")
    if not records:
        return missing
    whole_model = [r for r in records if r["part"] == "all"]
    some = [_named(r) for kept in KEPT_SHOWN for r in whole_model if r["kept"] == kept]
    last = {
        run: max(r["tasks"] for r in records if r["run"] == run)
        for run in group.names
        if any(r["run"] == run for r in records)
    }
    final = [r for r in whole_model if r["tasks"] == last[r["run"]]]
    tasks = Axis("tasks", "tasks", "whole")
    shared = Axis("of_shared", "conflicts, % of shared entries", "share")
    among_all = Axis("conflicts", "conflicts, % of all entries", "share", 0)
    kept = Axis("kept", "largest entries kept of each task vector, %", "root")
    shares = ("kept_of_each", common(some, "kept_of_each"))
    meeting = Figure(
        "signs-of-shared",
        "Conflicts where tasks meet",
        "Of the entries that at least two of the first T task vectors change (keep), the share "
        "that they change with both signs. The paper's hypothesis H2: sequential fine-tuning has "
        "fewer than independent.",
        some,
    )
    everywhere = Figure(
        "signs-conflicts",
        "Conflicts among all entries",
        "The share of all entries that the first T task vectors change with both signs.",
        some,
    )
    largest = Figure(
        "signs-kept",
        "Conflicts among the largest",
        "The same for all task vectors, over the share of largest entries that each keeps "
        "(square-root axis): what matters most should conflict least.",
        final,
    )
    return [
        *line_charts(meeting, tasks, shared, shares),
        *line_charts(everywhere, tasks, among_all, shares),
        *line_charts(largest, kept, shared, ("part", ["all"])),
        _parts(group, records, last),
        *missing,
    ]


def _named(record: Record) -> Record:
    return record | {"kept_of_each": f"{100 * record['kept']:g} % kept"}


def _parts(group: Group, records: list[Record], last: dict[str, int]) -> Table:
    shown = [r for r in records if r["tasks"] == last[r["run"]] and r["kept"] in KEPT_SHOWN]
    columns = [
        *group.run_columns,
        Column("part", "Kind of weight"),
        Column("kept", "Kept, %", percent),
        Column("entries", "Entries", whole),
        Column("changed", "Changed, %", percent),
        Column("shared", "Shared, %", percent),
        Column("conflicts", "Conflicts, % of all", percent),
        Column("of_shared", "Conflicts, % of shared", percent),
    ]
    caption = (
        "For all task vectors together. Changed: by a kept entry of at least one; shared: of at "
        "least two; conflicts: with both signs."
    )
    return Table("signs-parts", "By kind of weight", caption, shown, columns)


REPORT_SECTIONS.register("conflicts", Section("Sign conflicts", 110, items))
