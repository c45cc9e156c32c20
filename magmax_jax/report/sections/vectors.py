"""Task vectors as vectors: directions and lengths, and their effect on the features."""

from magmax_jax.registry import REPORT_SECTIONS
from magmax_jax.report.axes import Axis
from magmax_jax.report.groups import Group
from magmax_jax.report.heat_maps import heat_map
from magmax_jax.report.items import WIDTH, Figure, Item
from magmax_jax.report.lines import line_charts
from magmax_jax.report.section import Section
from magmax_jax.report.sections.studies import absent, analysed, common, figures_first
from magmax_jax.report.style import slug

NORMS = {
    "norm": "task vector",
    "step": "change by the task",
    "merged": "max_magnitude of all so far",
}


def items(group: Group) -> list[Item]:
    """Figures first, then notes on missing analyses."""
    return figures_first([*similarity(group), *norms(group), *alignment(group)])


def similarity(group: Group) -> list[Item]:
    """Cosines between all task vectors, and with merges."""
    records = analysed(group, "similarity")
    found: list[Item] = []
    for run in common(records, "run"):
        mine = [r for r in records if r["run"] == run]
        number = len(common(mine, "first"))
        found.append(
            Figure(
                slug("similarity", run),
                "Cosine similarity" + (f", {run}" if len(group.runs) > 1 else ""),
                "Cosine of the angle between two task vectors τ = θ - θ₀, and with merged ones: 1 "
                "is the same direction, 0 is orthogonal, below 0 is opposed.",
                mine,
                heat_map(
                    mine,
                    Axis("first", ""),
                    Axis("second", ""),
                    Axis("cosine", "cosine"),
                    centred=True,
                ),
                "heat map",
                (WIDTH, 4.2 if number > 5 else 3.4),
            )
        )
    return [*found, *absent(group, "similarity")]


def norms(group: Group) -> list[Item]:
    """Lengths of task vectors over the tasks."""
    records = []
    for run in group.runs:
        for number, record in enumerate(run.analysis("norms"), start=1):
            where = {"run": run.name, "task": record["task"], "number": number}
            records += [
                where | {"of": title, "norm": record[field]}
                for field, title in NORMS.items()
                if record.get(field) is not None
            ]
    missing = absent(group, "norms")
    if not records:
        return missing
    caption = (
        "Norm of each task vector τ_t, of the change θ_t - θ_(t-1) that the task's training made, "
        "and of max_magnitude's merged vector of the tasks so far."
    )
    chart = Figure("norms", "Norms", caption, records)
    length = Axis("norm", "Euclidean norm", low=0)
    task = Axis("number", "task", "whole")
    return [*line_charts(chart, task, length, ("of", list(NORMS.values()))), *missing]


def alignment(group: Group) -> list[Item]:
    """How similar the features still are to the pretrained model's."""
    records = analysed(group, "alignment")
    found: list[Item] = []
    for run in common(records, "run"):
        mine = [
            r | {"label": r["model"] if r["scale"] is None else f"{r['model']}@{r['scale']:g}"}
            for r in records
            if r["run"] == run
        ]
        models = len(common(mine, "label"))
        found.append(
            Figure(
                slug("alignment", run),
                "Features kept" + (f", {run}" if len(group.runs) > 1 else ""),
                "Linear centred kernel alignment (Kornblith et al., 2019) of a model's image "
                "features with the pretrained model's, on each task's test images: 1 is the same "
                "up to rotation and scale.",
                mine,
                heat_map(
                    mine,
                    Axis("label", ""),
                    Axis("group", "test images of"),
                    Axis("cka", "linear CKA"),
                ),
                "heat map",
                (WIDTH, 2.2 + 0.35 * models),
            )
        )
    return [*found, *absent(group, "alignment")]


REPORT_SECTIONS.register("vectors", Section("Task vectors", 140, items))
