"""What `magmax evaluate` shows: accuracies as tables, a column for each source."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from magmax_jax.errors import counted, harmless
from magmax_jax.evaluation.rows import Row, has_top5, protocols

if TYPE_CHECKING:  # JAX takes seconds to import, and --help does not need it
    from rich.table import Table

    from magmax_jax.api.model_evaluation import Found
    from magmax_jax.scenarios import Scenario


def tables(found: Sequence["Found"], scenario: "Scenario", per_class: bool) -> Iterator["Table"]:
    """The accuracies, one column per source: overall, by task and domain, by class."""
    from rich.table import Table

    def start(title: str, first: str) -> Table:
        table = Table(title=harmless(title), title_justify="left", caption_justify="left")
        table.add_column(first)
        for one in found:
            table.add_column(harmless(one.source), justify="right", overflow="fold")
        return table

    def row(protocol: str, group: str) -> list[Row]:
        return [
            next(r for r in one.rows if (r.protocol, r.group) == (protocol, group)) for one in found
        ]

    groups = list(dict.fromkeys(r.group for r in found[0].rows if r.group != "all"))
    tasks = [task.name for task in scenario.tasks]
    shown = protocols(r for one in found for r in one.rows)
    among = {"agnostic": "all classes", "aware": "the task's own classes"}
    classes = {"agnostic": scenario.num_classes, "aware": scenario.class_masks.sum(1).max()}
    overall = start(f"{scenario.name}, {counted(scenario.num_test, 'test image')}", "accuracy")
    if len(shown) == 1:
        overall.caption = "among the task's own classes it is the same"
    for protocol in shown:
        every = row(protocol, "all")
        overall.add_row(f"among {among[protocol]}", *(f"{r.accuracy:.1%}" for r in every))
        if has_top5(classes[protocol]):
            overall.add_row("  label among the top 5", *(f"{r.top5:.1%}" for r in every))
        means = zip(*([r.accuracy for r in row(protocol, task)] for task in tasks), strict=True)
        overall.add_row("  mean of the tasks", *(f"{sum(m) / len(m):.1%}" for m in means))
    yield overall
    title = "among all classes" + (" / the task's own" if len(shown) > 1 else "")
    parts = start(title, "task or domain")
    for group in groups:
        each = zip(*(row(protocol, group) for protocol in shown), strict=True)
        parts.add_row(
            harmless(group), *(" / ".join(f"{r.accuracy:.1%}" for r in rows) for rows in each)
        )
    yield parts
    if per_class:
        yield _by_class(start("among all classes", "class"), found, scenario)


def _by_class(table: "Table", found: Sequence["Found"], scenario: "Scenario") -> "Table":
    names = [name for head in scenario.heads for name in head.class_names]
    for number, name in enumerate(names):
        right = (one.counts.agnostic[..., number].sum() for one in found)
        images = found[0].counts.total[..., number].sum()
        table.add_row(harmless(name), *(f"{hits / images:.1%}" if images else "" for hits in right))
    return table
