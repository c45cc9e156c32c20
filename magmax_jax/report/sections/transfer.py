"""How tasks affect each other and data that no task trained on; and what everything costs."""

from magmax_jax.registry import REPORT_SECTIONS
from magmax_jax.report.axes import Axis
from magmax_jax.report.bars import bars, bars_height
from magmax_jax.report.groups import Group
from magmax_jax.report.heat_maps import heat_map
from magmax_jax.report.items import WIDTH, Column, Figure, Item, Table, figures_shown, megabytes
from magmax_jax.report.lines import line_charts
from magmax_jax.report.section import Section
from magmax_jax.report.sections.over_tasks import ACCURACY, AFTER
from magmax_jax.report.sections.studies import absent, analysed, common, figures_first
from magmax_jax.report.style import slug
from magmax_jax.runs.model_ref import ZERO_SHOT

PRETRAINED = "pretrained"


def items(group: Group) -> list[Item]:
    """Figures first, then notes on missing analyses."""
    return figures_first([*contribution(group), *transfer(group)])


def contribution(group: Group) -> list[Item]:
    """Accuracy gained on each task by including each task in the merge."""
    records = [r for r in analysed(group, "contribution") if r["protocol"] == "agnostic"]
    found: list[Item] = []
    for run, rule in dict.fromkeys((r["run"], r["rule"]) for r in records):
        mine = [
            r | {"gain": r["with_all"] - r["accuracy"]}
            for r in records
            if (r["run"], r["rule"]) == (run, rule)
        ]
        left_out = len(common(mine, "left_out"))
        found.append(
            Figure(
                slug("contribution", rule, run),
                f"Contribution to {rule}@{mine[0]['scale']:g}"
                + (f", {run}" if len(group.runs) > 1 else ""),
                "Agnostic accuracy with all tasks in the merge minus that without one of them, on "
                "each task's test images: above 0, the task that was left out had helped.",
                mine,
                heat_map(
                    mine,
                    Axis("left_out", "left out of the merge"),
                    Axis("group", "test images of"),
                    Axis("gain", "gain from including it, points", "share"),
                    centred=True,
                ),
                "heat map",
                (WIDTH, 1.9 + 0.3 * min(max(left_out, 3), 10)),
            )
        )
    return [*found, *absent(group, "contribution")]


def transfer(group: Group) -> list[Item]:
    """Accuracy on data not trained on, over tasks, compared with zero-shot."""
    records = [r for r in analysed(group, "transfer") if r["protocol"] == "agnostic"]
    found: list[Item] = []
    for data in common(records, "data"):
        mine, coming = [], data == "tasks to come"
        for r in (r for r in records if r["data"] == data):
            label = r["model"] if r["scale"] is None else f"{r['model']}@{r['scale']:g}"
            where = {"run": r["run"], "after_task": r["after_task"]}
            mine.append(where | {"model": label, "accuracy": r["accuracy"], "count": r["count"]})
            mine.append(
                where
                | {
                    "model": PRETRAINED if coming else ZERO_SHOT,
                    "accuracy": r["zero_shot"],
                    "count": r["count"],
                    "run": None,
                }
            )
        unique = list({tuple(r.values()): r for r in mine}.values())
        caption = (
            "Agnostic accuracy on the test images of the tasks that are yet to come, whose number "
            "shrinks, beside the pretrained model's on the same images."
            if coming
            else "Accuracy on a data set that no task trained on, beside the pretrained model's."
        )
        title = "Transfer to tasks to come" if coming else f"Transfer to {data}"
        chart = Figure(slug("transfer", data), title, caption, unique)
        if coming:
            # No horizontal line: the images differ after every task.
            models = [*group.labels, PRETRAINED]
            found += line_charts(chart, AFTER, ACCURACY, ("model", models), always=[PRETRAINED])
        else:
            found.append(_in_the_end(chart, group))
    return [*found, *absent(group, "transfer")]


def _in_the_end(chart: Figure, group: Group) -> Figure:
    """Bars, by run if there are several: other data sets are evaluated after the last task only."""
    records = [r | {"run": r["run"] or PRETRAINED} for r in chart.records]
    field = "run" if len(group.runs) > 1 else "model"
    return chart._replace(
        records=records,
        draw=bars(records, Axis(field, ""), ACCURACY, ("model", group.labels)),
        kind="bar chart",
        size=(WIDTH, bars_height(len(records), len(common(records, field)))),
    )


def overhead(group: Group) -> list[Item]:
    """Cost of merging and regularizers compared with training."""
    records = analysed(group, "overhead")
    missing = absent(group, "overhead")
    if not records:
        return missing
    columns = [
        *group.run_columns,
        Column("what", "What"),
        Column("seconds", "Seconds", figures_shown),
        Column("steps", "in training steps", figures_shown),
        Column("bytes", "Peak memory, MB", megabytes),
        Column("state", "Kept between tasks, MB", megabytes),
    ]
    caption = (
        "Seconds on this run's device, and in plain training steps; temporary and output memory as "
        "XLA plans it; what is kept from one task to the next."
    )
    return [Table("overhead", "Time and memory", caption, records, columns), *missing]


REPORT_SECTIONS.register("influence", Section("Contribution, transfer", 150, items))
REPORT_SECTIONS.register("overhead", Section("Cost", 160, overhead))
