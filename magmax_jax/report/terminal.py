"""The final accuracies of a run, as a table for the terminal."""

from collections.abc import Sequence

from rich.table import Table

from magmax_jax.errors import counted
from magmax_jax.evaluation.history import histories, task_names
from magmax_jax.evaluation.metrics import forgetting, last_accuracy
from magmax_jax.evaluation.rows import Row
from magmax_jax.report.style import title_of


def table(rows: Sequence[Row], title: str) -> Table:
    """The final accuracies of every model, one a line."""
    tasks = task_names(rows)
    agnostic, aware = histories(rows, "agnostic"), histories(rows, "aware")
    final = Table(title=title, title_justify="left", caption_justify="left")
    final.caption = (
        f"in % of the test images of {counted(len(tasks), 'task')} in the end, and as the mean of "
        "the tasks: accuracy among all classes (agnostic) and among the task's own (aware); "
        "forgetting in points, agnostic"
    )
    final.add_column("model")
    for column in ("agnostic", "aware", "forgetting"):
        final.add_column(column, justify="right")
        final.add_column("tasks", justify="right", style="dim")
    for label, history in agnostic.items():
        measured = (
            measure(each, weighted)
            for measure, each in (
                (last_accuracy, history),
                (last_accuracy, aware[label]),
                (forgetting, history),
            )
            for weighted in (True, False)
        )
        shown = ("" if value is None else f"{100 * value:.1f}" for value in measured)
        final.add_row(title_of(label), *shown)
    return final
