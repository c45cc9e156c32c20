"""The final accuracies of a run, as a table for the terminal."""

from collections.abc import Iterable

from rich.table import Table

from magmax_jax.errors import counted
from magmax_jax.evaluation.history import histories, task_names
from magmax_jax.evaluation.metrics import forgetting, last_accuracy
from magmax_jax.evaluation.rows import Row, protocols
from magmax_jax.evaluation.scales import CHOSEN, NO_SCALES, PUBLISHED, Scales
from magmax_jax.report.style import title_of


def table(rows: Iterable[Row], title: str, scales: Scales = NO_SCALES) -> Table:
    """The final accuracies of every model, one per row.

    Args:
      rows: of a run, as `runs.train.run` returns them or `read_rows` reads them.
      title: above the table, such as the scenario's name.
      scales: of the run's merges (`RunDirectory.scales`). If any were chosen on held-out images,
        every rule is also shown at its chosen scale, and a column says which is which.
    """
    rows = scales.beside(list(rows))
    tasks, shown_protocols = task_names(rows), protocols(rows)
    found = {protocol: histories(rows, protocol) for protocol in shown_protocols}
    final = Table(title=title, title_justify="left", caption_justify="left")
    among = "among all classes (agnostic) and among the task's own (aware)"
    if len(shown_protocols) == 1:
        among = "among all classes, which is the same among the task's own"
    final.caption = (
        f"in % of the test images of {counted(len(tasks), 'task')} at the end, and as the mean of "
        f"the tasks: accuracy {among}; forgetting in points, agnostic"
    )
    after = {row.after_task for row in rows}
    if len(after) <= max(after, default=0):
        final.caption += ", which needs an evaluation after every task (--evaluate every)"
    if scales.chosen:
        final.caption += (
            f"; scale: {PUBLISHED} (the rule's default), or {CHOSEN} as the best on "
            f"{counted(scales.images, 'held-out training image')}"
        )
        final.padding = 0  # despite the extra column, whole names fit into 80 columns
    final.add_column("model", overflow="fold")
    if scales.chosen:
        final.add_column("scale")
    for column in (*shown_protocols, "forgetting"):
        final.add_column(column, justify="right", no_wrap=True)
        final.add_column("tasks", justify="right", style="dim", no_wrap=True)
    for label, history in found["agnostic"].items():
        measures = [(last_accuracy, found[protocol][label]) for protocol in shown_protocols]
        measured = (
            measure(each, weighted)
            for measure, each in (*measures, (forgetting, history))
            for weighted in (True, False)
        )
        shown = ("" if value is None else f"{100 * value:.1f}" for value in measured)
        kind = [scales.kind(label).replace(", ", ",\n")] if scales.chosen else []
        final.add_row(title_of(label), *kind, *shown)
    return final
