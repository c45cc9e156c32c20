"""Which task supplies which part of a merged model."""

from magmax_jax.registry import REPORT_SECTIONS
from magmax_jax.report.axes import Axis
from magmax_jax.report.bars import bars_height, stacked
from magmax_jax.report.groups import Group
from magmax_jax.report.items import WIDTH, Figure, Heading, Item, Record
from magmax_jax.report.section import Section
from magmax_jax.report.sections.studies import absent, analysed, common
from magmax_jax.report.style import slug

PLACES = {"layer": "By layer", "kind": "By kind of weight"}
SHARES = {
    "supplied": (
        "share of entries",
        "Share of the entries for which each task's value was taken; the rest, up to 100 %, was "
        "changed by no task.",
    ),
    "squared_norm": (
        "share of the squared norm",
        "Share that the entries taken from each task contribute to the squared norm of the merged "
        "task vector.",
    ),
}


def items(group: Group) -> list[Item]:
    """Stacked bars by layer and by kind of weight, of entries and of squared norm."""
    records = analysed(group, "provenance")
    found: list[Item] = []
    for run in group.names:
        for rule in common([r for r in records if r["run"] == run], "rule"):
            mine = [r for r in records if (r["run"], r["rule"]) == (run, rule)]
            found.append(Heading(rule if len(group.runs) == 1 else f"{rule}, {run}"))
            for place, where in PLACES.items():
                for field, (label, caption) in SHARES.items():
                    shares = _shares(mine, place, field)
                    categories = len(common(shares, place))
                    found.append(
                        Figure(
                            slug("provenance", rule, run, place, field),
                            f"{where}: {label}",
                            caption,
                            shares,
                            stacked(
                                shares,
                                Axis(place, ""),
                                Axis("share", f"{label}, %", "share"),
                                "task",
                            ),
                            "stacked bar chart",
                            (WIDTH, bars_height(categories, categories) + 0.3),
                        )
                    )
    return [*found, *absent(group, "provenance")]


def _shares(records: list[Record], place: str, field: str) -> list[Record]:
    """Sums over everything except place and task, as shares of the place; "all" comes first."""
    sums: dict[tuple[str, str], list[float]] = {}
    for record in records:
        for where in ("all", record[place]):
            total = sums.setdefault((where, record["task"]), [0.0, 0.0])
            total[0] += record[field]
            total[1] += record["entries"]
    wholes: dict[str, float] = {}
    for (where, _), (value, entries) in sums.items():
        # Every task lists all entries of a place, but squared norms add up to the merge's.
        wholes[where] = entries if field == "supplied" else wholes.get(where, 0.0) + value
    return [
        {
            place: where,
            "task": task,
            "share": value / wholes[where] if wholes[where] else 0.0,
            field: value,
        }
        for (where, task), (value, _) in sums.items()
    ]


REPORT_SECTIONS.register("provenance", Section("Provenance", 130, items))
