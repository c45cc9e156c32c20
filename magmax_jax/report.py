"""Rows as people read them: a table at the end of a run, and a picture."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from magmax_jax.results import DOMAIN, Row

# Okabe and Ito's colours, told apart by colour-blind readers too; black for the pretrained model.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#7F7F7F")
MARKERS = "osD^vP*X"
TITLES = {"zero_shot": "zero-shot", "finetuned": "last fine-tuned"}


def task_names(rows: Sequence[Row]) -> list[str]:
    """The tasks in the order learned, as the first evaluation lists them."""
    groups = dict.fromkeys(row.group for row in rows if row.after_task == 0)
    return [group for group in groups if group != "all" and not group.startswith(DOMAIN)]


def accuracies(rows: Sequence[Row], protocol: str) -> dict[str, dict[str, dict[int, float]]]:
    """label -> group -> tasks learned -> accuracy, of one protocol."""
    found: dict = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row.protocol == protocol:
            found[row.label][row.group][row.after_task] = row.accuracy
    return found


def forgetting(history: dict[str, dict[int, float]], tasks: Sequence[str]) -> float | None:
    """Mean over all tasks but the last of the best accuracy a task ever had minus its final one.

        F = 1/(T-1) sum_(i<T) max_(i<=t<T) (a_t,i - a_T,i)

    Chaudhry et al., 2018 (arXiv 1801.10112), eq. 3: the best since the task was learned, without
    the final model, so a task that got better counts negatively.

    Args:
      history: group -> tasks learned -> accuracy, of one model.
      tasks: the tasks' names in the order learned.

    Returns:
      F in [-1, 1], or None for fewer than two tasks or a model that does not learn.
    """
    last = len(tasks)
    if last < 2 or any(last not in history[task] for task in tasks):
        return None
    drops = [
        max(history[task][t] for t in range(i, last)) - history[task][last]
        for i, task in enumerate(tasks[:-1], start=1)
    ]
    return float(np.mean(drops))


def table(rows: Sequence[Row], title: str) -> Table:
    """The final accuracies of every model, as a table for the terminal."""
    tasks = task_names(rows)
    agnostic, aware = accuracies(rows, "agnostic"), accuracies(rows, "aware")
    final = Table(title=title, title_justify="left", caption_justify="left")
    final.caption = (
        f"accuracy on the test images of all {len(tasks)} tasks in the end, among all classes "
        "(agnostic) and among the task's own (aware); forgetting: agnostic, mean over tasks"
    )
    final.add_column("model")
    for column in ("agnostic", "aware", "forgetting"):
        final.add_column(column, justify="right")
    for label, history in agnostic.items():
        after = max(history["all"])
        lost = forgetting(history, tasks)
        final.add_row(
            TITLES.get(label, label),
            f"{history['all'][after]:.1%}",
            f"{aware[label]['all'][after]:.1%}",
            "" if lost is None else f"{100 * lost:.1f} points",
        )
    return final


def plot(rows: Sequence[Row], title: str, path: Path) -> None:
    """Draws agnostic accuracy over tasks, a line a model, as a PNG.

    Left of all test images, which shows learning; right of the first task's: forgetting.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    first_task = task_names(rows)[0]
    histories = accuracies(rows, "agnostic")
    zero_shot = histories.pop("zero_shot")
    figure, panels = plt.subplots(1, 2, figsize=(9.6, 4), sharey=True, layout="constrained")
    figure.suptitle(title)
    for axes, group in zip(panels, ("all", first_task), strict=True):
        start = zero_shot[group][0]
        axes.axhline(start, color="black", linestyle=":", label=TITLES["zero_shot"])
        for i, (label, history) in enumerate(histories.items()):
            points = {0: start} | history[group]
            axes.plot(
                list(points),
                list(points.values()),
                "--" if label == "finetuned" else "-",
                color=COLOURS[i % len(COLOURS)],
                marker=MARKERS[i % len(MARKERS)],
                label=TITLES.get(label, label),
            )
        axes.set_title("all test images" if group == "all" else f"those of {group}")
        axes.set_xlabel("tasks learned")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("accuracy among all classes")
    panels[0].set_ylim(bottom=0)
    panels[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(len(labels), 5), frameon=False
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    figure.savefig(partial, dpi=150, format="png")
    plt.close(figure)
    partial.replace(path)
