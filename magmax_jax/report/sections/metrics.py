"""Every metric of every model, weighted by images and as the mean over tasks."""

from magmax_jax.evaluation.metrics import Both, measure
from magmax_jax.evaluation.rows import has_top5
from magmax_jax.registry import METRICS, REPORT_SECTIONS
from magmax_jax.report.groups import Group
from magmax_jax.report.items import Column, Item, Record, Table, percent
from magmax_jax.report.section import Section
from magmax_jax.report.style import JOINT, title_of
from magmax_jax.runs.model_ref import FINETUNED


def items(group: Group) -> list[Item]:
    return [_table(group, protocol) for protocol in group.protocols]


def _table(group: Group, protocol: str) -> Table:
    records, top5 = [], _top5(group, protocol)
    for run, label, history, scales in group.compared(protocol):
        independent = group.independent(run, protocol)
        record: Record = {"run": run, "model": title_of(label), "scale": scales.kind(label)}
        name = run if run in group.names else group.names[0]  # the pretrained model has no run
        record["top5_weighted"] = top5.get((name, FINETUNED if label == JOINT else label))
        for name, both in measure(history, independent).items():
            record |= {f"{name}_{weighting}": v for weighting, v in both._asdict().items()}
        records.append(record)
    present = {name for record in records for name, value in record.items() if value is not None}
    if not _says_top5(group, protocol):
        present.discard("top5_weighted")
    columns = [*group.run_columns, Column("model", "Model")]
    if any(run.choices for run in group.runs):
        columns.append(Column("scale", "Scale"))
    titles = {name: metric.heading for name, metric in METRICS.items()} | {"top5": "Top-5, %"}
    for name, title in titles.items():
        for weighting, unit in zip(Both._fields, ("images", "tasks"), strict=True):
            field = f"{name}_{weighting}"
            if field in present:
                columns.append(Column(field, unit, percent, over=title))
    captions = {
        "agnostic": _definitions("top5_weighted" in present, "aware" in group.protocols),
        "aware": "As above, with the task known.",
    }
    among = "all classes of the scenario" if protocol == "agnostic" else "the task's own classes"
    return Table(
        f"measures-{protocol}",
        f"Measures among {among} ({protocol})",
        captions[protocol],
        records,
        columns,
    )


def _definitions(top5: bool, aware: bool) -> str:
    each = " ".join(f"{metric.title}: {metric.definition}." for metric in METRICS.values())
    text = (
        f"{each} Each is shown twice: with the same weight for every image (images), or for every "
        "task (tasks)."
    )
    if top5:
        text += " Top-5: the class is among the five most likely, at the end."
    if not aware:
        text += " Among the task's own classes (aware) they are the same."
    return text


def _says_top5(group: Group, protocol: str) -> bool:
    """Whether there are enough classes; runs without about.json do not record how many."""
    known = [run.about for run in group.runs if {"classes", "tasks"} <= run.about.keys()]
    sizes = {
        "agnostic": [len(about["classes"]) for about in known],
        "aware": [len(task["classes"]) for about in known for task in about["tasks"]],
    }
    return has_top5(max(sizes[protocol])) if known else True


def _top5(group: Group, protocol: str) -> dict[tuple[str, str], float | None]:
    """Top-5 of the last evaluation on all test images, by run and label; None for older runs."""
    return {
        (run.name, row.label): row.top5  # the last of several rows wins
        for run in group.runs
        for row in run.scales.beside(run.rows)
        if (row.group, row.protocol, row.split) == ("all", protocol, "test")
    }


REPORT_SECTIONS.register("measures", Section("Measures", 20, items))
