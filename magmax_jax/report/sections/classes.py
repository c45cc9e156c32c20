"""Results by class, from the exact counts of the last evaluation."""

import numpy as np

from magmax_jax.errors import UserError, counted
from magmax_jax.registry import REPORT_SECTIONS
from magmax_jax.report.axes import Axis
from magmax_jax.report.bars import bars, bars_height
from magmax_jax.report.confusions import any_confusions, best_confusions, selectable
from magmax_jax.report.groups import Group
from magmax_jax.report.items import (
    CHOSEN,
    WIDTH,
    Column,
    Figure,
    Heading,
    Item,
    Note,
    Record,
    Table,
    percent,
    whole,
)
from magmax_jax.report.runs import Run
from magmax_jax.report.section import Section
from magmax_jax.report.sections.over_tasks import ACCURACY
from magmax_jax.report.style import slug, title_of
from magmax_jax.runs.model_ref import FINETUNED, ZERO_SHOT

EXTREMES = 10
"""Number of best and of worst classes shown."""


def items(group: Group) -> list[Item]:
    """Classes and confusions: figures of each run's best model, tables of any selected model."""
    found: list[Item] = []
    lacking = []
    for run in group.runs:
        models = [run.best, FINETUNED, ZERO_SHOT, *run.labels]
        counts = {
            label: kept
            for label in dict.fromkeys(models)
            if label in run.labels and (kept := run.counts(label)) is not None
        }
        if run.best not in counts:
            lacking.append(run.name)
            continue
        if len(group.runs) > 1:
            found.append(Heading(run.name))
        classes = counts[run.best]["total"].shape[-1]
        for label, kept in counts.items():
            if (other := kept["total"].shape[-1]) != classes:
                raise UserError(
                    f"{run.counts_file(label)} is of {counted(other, 'class')}, but "
                    f"{run.counts_file(run.best).name} is of {classes}: remove the damaged one to "
                    "make the report without it"
                )
        names = run.class_names or []
        if len(names) != classes:
            names = [f"class {i}" for i in range(classes)]
        found += [*_each(group, run, counts, names), *best_confusions(run, counts[run.best], names)]
        found += any_confusions(run, counts, names)
    if lacking:
        whose = f" of {'; '.join(lacking)}" if found else ""
        found.append(Note(f"No counts by class{whose}: repeat the run, which now keeps them."))
    return found


def _each(
    group: Group, run: Run, counts: dict[str, dict[str, np.ndarray]], names: list[str]
) -> list[Item]:
    records: list[Record] = [{"class": name} for name in names]
    for label, found in counts.items():
        total = found["total"].sum((0, 1))
        for protocol in group.protocols:
            right = found[protocol].sum((0, 1))
            for record, hits, images in zip(records, right, total, strict=True):
                record["images"] = int(images)
                record[f"{label} {protocol}"] = float(hits / images) if images else None
    task_of = {c: task["name"] for task in run.about.get("tasks", []) for c in task["classes"]}
    if len(set(task_of.values())) > 1:
        for number, record in enumerate(records):
            record["task"] = task_of.get(number)
    field = f"{run.best} agnostic"
    ranked = sorted((r for r in records if r["images"]), key=lambda r: r[field])
    few = len(ranked) <= 2 * EXTREMES
    ends = ranked if few else [*ranked[:EXTREMES], *ranked[-EXTREMES:]]
    drawn = [
        {"class": r["class"], "model": run.shown(label), "accuracy": r[f"{label} agnostic"]}
        for r in ends
        for label in counts
        if label in (run.best, ZERO_SHOT)
    ]
    columns = [Column("class", "Class")]
    columns += [Column("task", "Task")] if "task" in records[0] else []
    columns.append(Column("images", "Test images", whole))
    beside = [label for label in (FINETUNED, ZERO_SHOT) if label in counts and label != run.best]
    for label, over in [(CHOSEN, CHOSEN), *((b, title_of(run.shown(b))) for b in beside)]:
        columns += [Column(f"{label} {p}", p, percent, over=f"{over}, %") for p in group.protocols]
    best = title_of(run.shown(run.best))
    title = "All classes" if few else f"The {EXTREMES} worst and the {EXTREMES} best classes"
    return [
        Figure(
            slug("classes-extreme", run.name),
            title,
            f"Share of a class's test images recognised among all classes by {best} and by the "
            "pretrained model.",
            drawn,
            bars(drawn, Axis("class", ""), ACCURACY, ("model", group.labels)),
            "bar chart",
            (WIDTH, bars_height(len(drawn), len(ends))),
        ),
        Table(
            slug("classes", run.name),
            "Every class",
            "Share of the class's test images recognised after the last task learned, worst first, "
            "by the model chosen.",
            [*ranked, *(r for r in records if not r["images"])],
            columns,
            selectable(run, counts),
        ),
    ]


REPORT_SECTIONS.register("classes", Section("Classes", 60, items))
