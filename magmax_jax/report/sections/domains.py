"""Results by domain, if the domains are not the tasks."""

from magmax_jax.evaluation.rows import DOMAIN
from magmax_jax.registry import REPORT_SECTIONS
from magmax_jax.report.groups import Group
from magmax_jax.report.items import Figure, Item, Record
from magmax_jax.report.lines import lines
from magmax_jax.report.section import Section
from magmax_jax.report.sections.over_tasks import ACCURACY, AFTER
from magmax_jax.report.style import slug, title_of
from magmax_jax.runs.model_ref import FINETUNED, ZERO_SHOT


def items(group: Group) -> list[Item]:
    """Accuracy of each run's best model on each domain over tasks."""
    found: list[Item] = []
    for run in group.runs:
        models = (FINETUNED, run.best_merge, ZERO_SHOT)
        records: list[Record] = [
            {
                "run": run.name,
                "model": row.label,
                "domain": row.group.removeprefix(DOMAIN),
                "after_task": row.after_task,
                "accuracy": row.accuracy,
                "count": row.count,
            }
            for row in run.rows
            if row.group.startswith(DOMAIN) and row.protocol == "agnostic"
            if row.label in models and row.split == "test"
        ]
        if not records:
            continue
        places = list(dict.fromkeys(record["domain"] for record in records))
        for label in (run.best,):
            mine = [r for r in records if r["model"] in (label, ZERO_SHOT)]
            title = title_of(label) + (f", {run.name}" if len(group.runs) > 1 else "")
            found.append(
                Figure(
                    slug("domains", run.name, label),
                    title,
                    "Agnostic accuracy on each domain's test images as tasks are learned (0: "
                    "zero-shot).",
                    records,
                    lines(mine, AFTER, ACCURACY, ("domain", places)),
                    "line chart",
                )
            )
    return found


REPORT_SECTIONS.register("domains", Section("Domains", 70, items))
