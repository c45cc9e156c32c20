"""The picture that a run leaves behind: accuracy over tasks."""

from collections.abc import Sequence
from pathlib import Path

from magmax_jax.evaluation.history import histories
from magmax_jax.evaluation.rows import Row
from magmax_jax.io.atomic import new_file
from magmax_jax.report.axes import Axis, legend
from magmax_jax.report.lines import lines
from magmax_jax.report.style import RC


def plot(rows: Sequence[Row], title: str, path: Path) -> None:
    """Draws agnostic accuracy over tasks, a line a model, as a PNG.

    Left of all test images, which shows learning; right of the first task's: forgetting.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = histories(rows, "agnostic")
    labels = [*(label for label in found if label != "zero_shot"), "zero_shot"]
    first = found["zero_shot"].tasks[0]
    panels = {
        "all test images": lambda h: h.overall,
        f"those of {first}": lambda h: h.accuracy[:, 0],
    }
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(9.6, 4), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title)
        for axes, (name, values) in zip(
            figure.subplots(1, 2, sharey=True), panels.items(), strict=True
        ):
            records = [
                {"model": label, "after_task": after, "accuracy": accuracy}
                for label, history in found.items()
                for after, accuracy in enumerate(values(history))
                if label != "zero_shot" or after == 0
            ]
            x = Axis("after_task", "tasks learned", "whole")
            y = Axis("accuracy", "accuracy among all classes, %", "share")
            lines(records, x, y, ("model", labels), with_legend=False)(axes)
            axes.set_title(name)
            axes.label_outer()
        axes.set_ylim(bottom=0)  # of both, once both are drawn
        legend(axes, columns=5)
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path) as partial:
            figure.savefig(partial, dpi=150, format="png")
