"""The final accuracies of a run, as a table for the terminal."""

from collections.abc import Sequence

from rich.table import Table

from magmax_jax.measures import forgetting, histories, last_accuracy, task_names
from magmax_jax.report.style import title_of
from magmax_jax.results import Row


def table(rows: Sequence[Row], title: str) -> Table:
    """The final accuracies of every model, one a line."""
    tasks = task_names(rows)
    agnostic, aware = histories(rows, "agnostic"), histories(rows, "aware")
    final = Table(title=title, title_justify="left", caption_justify="left")
    final.caption = (
        f"accuracy on the test images of all {len(tasks)} tasks in the end, among all classes "
        "(agnostic) and among the task's own (aware); forgetting: agnostic, mean over tasks"
    )
    final.add_column("model")
    for column in ("agnostic", "aware", "forgetting"):
        final.add_column(column, justify="right")
    for label, history in agnostic.items():
        lost = forgetting(history, weighted=False)
        final.add_row(
            title_of(label),
            f"{last_accuracy(history, weighted=True):.1%}",
            f"{last_accuracy(aware[label], weighted=True):.1%}",
            "" if lost is None else f"{100 * lost:.1f} points",
        )
    return final
