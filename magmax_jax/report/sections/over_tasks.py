"""Accuracy as tasks are learned, overall and by task."""

import math
from collections.abc import Callable

from magmax_jax.evaluation.history import History
from magmax_jax.evaluation.metrics import average_accuracy, forgetting, forgetting_by_task
from magmax_jax.registry import REPORT_SECTIONS
from magmax_jax.report.axes import Axis
from magmax_jax.report.bars import bars, bars_height
from magmax_jax.report.groups import Group
from magmax_jax.report.heat_maps import heat_map
from magmax_jax.report.items import WIDTH, Column, Figure, Folded, Grid, Heading, Item, Note, Record
from magmax_jax.report.lines import line_charts
from magmax_jax.report.runs import Run
from magmax_jax.report.section import Section
from magmax_jax.report.style import FLAT, JOINT, slug, title_of
from magmax_jax.runs.model_ref import FINETUNED, ZERO_SHOT

AFTER = Axis("after_task", "tasks learned", "whole")
ACCURACY = Axis("accuracy", "accuracy, %", "share")
AMONG = {"agnostic": "all classes", "aware": "the task's own classes"}


def curves(group: Group) -> list[Item]:
    """Accuracy over tasks: on all test images, on the tasks seen, and on the first task."""
    first = group.tasks[0]
    views: dict[str, tuple[str, str, Callable[[History, int], float | None]]] = {
        "all": (
            "All test images",
            "Agnostic accuracy on the test images of all tasks, also of those to come: learning "
            "and forgetting together.",
            lambda history, t: history.overall[t],
        ),
        "seen": (
            "Tasks seen so far",
            "Agnostic accuracy on the test images of the tasks learned so far, every image "
            "counting the same.",
            lambda history, t: average_accuracy(history, t, weighted=True),
        ),
        "first": (
            f"The first task: {first}",
            "Agnostic accuracy on the first task's test images, as later tasks are learned: "
            "forgetting alone.",
            lambda history, t: history.accuracy[t, 0],
        ),
    }
    found: list[Item] = []
    for name, (title, caption, value) in views.items():
        records = _records(group, value)
        if name == "seen":  # joint training has seen all of them at once
            records = [record for record in records if record["model"] != JOINT]
        chart = Figure(f"accuracy-{name}", title, caption + group.left_out, records)
        if records:
            found += line_charts(chart, AFTER, ACCURACY, ("model", group.labels), always=FLAT)
    return found


def _records(group: Group, value: Callable[[History, int], float | None]) -> list[Record]:
    records = []
    for run, label, history in group.evaluated("agnostic"):
        if label not in group.drawn:
            continue
        # Models that do not change with the tasks get one point: before them, or after all.
        rounds = {ZERO_SHOT: [(0, 0)], JOINT: [(1, len(group.tasks))]}
        for place, after in rounds.get(label, [(t, t) for t in range(len(history.accuracy))]):
            accuracy = value(history, place) if place < len(history.accuracy) else None
            if accuracy is not None and not math.isnan(accuracy):
                where = {"run": run, "model": label, "after_task": after}
                records.append(where | {"accuracy": float(accuracy)})
    return records


def matrices(group: Group) -> list[Item]:
    """The accuracy of every task after every task: figures of the main models, a table of any."""
    found: list[Item] = []
    for run in (run for run in group.runs if not run.config.method.joint):
        main = [label for label in (FINETUNED, run.best_merge) if label in run.labels]
        found += [Heading(run.name)] if len(group.runs) > 1 else []
        found += [_matrix(run, label, "agnostic") for label in main]
        aware = "aware" in group.protocols
        folded: list[Item] = [_matrix(run, label, "aware") for label in main if aware]
        folded += [_any_matrix(run, protocol) for protocol in group.protocols]
        title = "Any model" + (", and among the task's own classes" if aware else "")
        found.append(Folded(title, folded))
    return found


def _any_matrix(run: Run, protocol: str) -> Grid:
    """The matrix of every model; initially that of the best."""
    histories = run.histories(protocol)
    labels = list(dict.fromkeys([run.best, FINETUNED, ZERO_SHOT, *run.labels]))
    choices = [(label, title_of(label)) for label in labels if label in histories]
    evaluated = sorted({row.after_task for row in run.rows})
    records = [
        {"after_task": after, "task": name}
        | {label: _known(float(histories[label].accuracy[after, task])) for label, _ in choices}
        for after in evaluated
        for task, name in enumerate(run.tasks)
    ]
    return Grid(
        slug("matrices", run.name, protocol),
        f"By model, {protocol}",
        f"Accuracy on each task's test images, among {AMONG[protocol]}, after each task (0: "
        "zero-shot), in %.",
        records,
        Column("after_task", "tasks learned"),
        Column("task", "test images of"),
        len(run.tasks),
        choices,
    )


def _known(accuracy: float) -> float | None:
    return None if math.isnan(accuracy) else accuracy


def _matrix(run: Run, label: str, protocol: str) -> Figure:
    history = run.histories(protocol)[label]
    records = [
        {"after_task": after, "task": task, "accuracy": float(accuracy)}
        for after, row in enumerate(history.accuracy)
        for task, accuracy in zip(history.tasks, row, strict=True)
        if not math.isnan(accuracy)
    ]
    tasks, evaluated = len(history.tasks), len({record["after_task"] for record in records})
    return Figure(
        slug("matrix", run.name, label, protocol),
        f"{title_of(label)}, {protocol}",
        f"Accuracy on each task's test images, among {AMONG[protocol]}, after each task (0: "
        "zero-shot).",
        records,
        heat_map(
            records,
            Axis("after_task", "tasks learned"),
            Axis("task", "test images of"),
            ACCURACY,
        ),
        "heat map",
        (WIDTH, 1.9 + 0.3 * min(max(evaluated, 3), 10) + (0.4 if tasks > 6 else 0)),
    )


def losses(group: Group) -> list[Item]:
    """Forgetting: the mean for every model, and by task for the main ones."""
    means = [
        {"run": run.name, "model": label, "forgetting": lost, "weighting": weighting}
        for run in group.runs
        for label, history in run.agnostic.items()
        for weighting in ("tasks", "images")
        if label in group.drawn
        if (lost := forgetting(history, weighted=weighting == "images")) is not None
    ]
    if not means:
        return [
            Note(
                "Forgetting needs a finished run of two tasks or more, learned one by one and "
                "evaluated after each (--evaluate every)."
            )
        ]
    drawn = [record for record in means if record["weighting"] == "images"]
    several = len(group.runs) > 1
    category = "run" if several else "model"
    points = Axis("forgetting", "forgetting, points", "share")
    found: list[Item] = [
        Figure(
            "forgetting-mean",
            "Mean over tasks",
            "Drop of a task's agnostic accuracy from its best since it was learned to the final "
            "one, mean over all tasks but the last, weighted by images (Chaudhry et al., 2018)."
            + group.left_out,
            means,
            bars(drawn, Axis(category, ""), points, ("model", group.labels)),
            "bar chart",
            (WIDTH, bars_height(len(drawn), len(group.runs) if several else len(drawn))),
        )
    ]
    for run in group.runs:
        main = [label for label in (FINETUNED, run.best_merge) if label in run.labels]
        records = []
        for place, task in enumerate(run.tasks[:-1]):
            for label in main:
                drops = forgetting_by_task(run.agnostic[label])
                if drops is not None:
                    drop = float(drops[place])
                    records.append({"task": task, "model": label, "forgetting": drop})
        if records:
            title = "Each task" + (f", {run.name}" if several else "")
            caption = "The same for each task: which ones lose most, and what merging keeps."
            draw = bars(records, Axis("task", ""), points, ("model", group.labels))
            size = (WIDTH, bars_height(len(records), len(run.tasks) - 1))
            name = slug("forgetting", run.name)
            found.append(Figure(name, title, caption, records, draw, "bar chart", size))
    return found


REPORT_SECTIONS.register("over-tasks", Section("Accuracy over tasks", 30, curves))
REPORT_SECTIONS.register("matrices", Section("Accuracy matrices", 40, matrices))
REPORT_SECTIONS.register("forgetting", Section("Forgetting", 50, losses))
