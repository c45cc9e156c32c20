"""Accuracy over the scale of the merges, and the scale chosen without using test images."""

from magmax_jax.registry import REPORT_SECTIONS
from magmax_jax.report.axes import Axis
from magmax_jax.report.groups import Group
from magmax_jax.report.items import Figure, Item, Note, Record
from magmax_jax.report.lines import line_charts
from magmax_jax.report.runs import Run
from magmax_jax.report.section import Section
from magmax_jax.report.sections.over_tasks import ACCURACY
from magmax_jax.report.style import slug

SPLITS = ("validation", "test")


def items(group: Group) -> list[Item]:
    """A figure for each rule; the summary has a table of the chosen scales."""
    records = [record for run in group.runs for record in _records(run)]
    if not records:
        return [
            Note(
                "No scales were swept: run with rules and scales of a sweep, such as",
                "--sweep.rules max_magnitude --sweep.scales 0.1:1.5:0.1",
            )
        ]
    rules = list(dict.fromkeys(record["rule"] for record in records))
    found: list[Item] = []
    for rule in rules:
        mine = [record for record in records if record["rule"] == rule]
        caption = (
            "Agnostic accuracy of the merge after the last task over its scale λ, on test images "
            "and on validation images held out of training; ringed: the scale that is best on the "
            "latter."
        )
        chart = Figure(slug("sweep", rule), rule, caption, mine)
        scale = Axis("scale", "scale λ")
        found += line_charts(chart, scale, ACCURACY, ("split", SPLITS), mark="chosen")
    if not any(record["chosen"] for record in records):
        found.append(
            Note(
                "No scale was chosen on validation images: hold some out of training; choosing a "
                "scale then needs no test images."
            )
        )
    return found


def _records(run: Run) -> list[Record]:
    rows = [r for r in run.sweep if r.group == "all" and r.protocol == "agnostic"]
    best = {row.label for row in rows if row.chosen}
    rows.sort(key=lambda row: row.scale or 0.0)
    return [
        {
            "run": run.name,
            "rule": row.model,
            "scale": row.scale,
            "split": row.split,
            "accuracy": row.accuracy,
            "count": row.count,
            "chosen": row.label in best,
        }
        for row in rows
    ]


REPORT_SECTIONS.register("sweep", Section("Scales", 90, items))
