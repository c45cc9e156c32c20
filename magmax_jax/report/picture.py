"""The picture that a run leaves behind: accuracy over tasks."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from magmax_jax.errors import UserError, counted
from magmax_jax.evaluation.history import histories
from magmax_jax.evaluation.rows import Row
from magmax_jax.evaluation.scales import NO_SCALES, Scales
from magmax_jax.io.atomic import new_file, refusing
from magmax_jax.packages import missing_extras_named
from magmax_jax.report.axes import Axis, legend
from magmax_jax.report.bars import bars_height
from magmax_jax.report.drawing import drawing
from magmax_jax.report.final_bars import final_bars, final_records
from magmax_jax.report.items import Record
from magmax_jax.report.lines import lines
from magmax_jax.runs.model_ref import ZERO_SHOT


@missing_extras_named()
def plot(rows: Iterable[Row], title: str, path: str | Path, scales: Scales = NO_SCALES) -> None:
    """Draws accuracy among all classes over tasks, one line per model, as a PNG.

    Left: on all test images, which shows learning. Right: on the first task's, which shows
    forgetting. Below, if scales were chosen on held-out images: final accuracy on all test images
    of every merge at its published and at its chosen scale.

    Args:
      rows: of a run, as `runs.train.run` returns them or `read_rows` reads them.
      title: above the picture, such as the scenario's name.
      path: of the PNG; its directory is created.
      scales: of the run's merges (`RunDirectory.scales`).

    Raises:
      UserError: rows of the pretrained model, with which every run begins, are missing, or the file
        cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure, SubFigure

    path = Path(path)
    rows = list(rows)
    found = histories(rows, "agnostic")
    if ZERO_SHOT not in found:
        raise UserError(
            f"{path}: the rows hold none of the pretrained model: pass all rows of a run"
        )
    labels = [*(label for label in found if label != ZERO_SHOT), ZERO_SHOT]
    first = found[ZERO_SHOT].tasks[0]
    panels = {
        "all test images": lambda h: h.overall,
        f"those of {first}": lambda h: h.accuracy[:, 0],
    }
    with drawing():
        final = _final(rows, scales) if scales.chosen else []
        height = bars_height(len(final), len(final)) if final else 0
        figure = Figure(figsize=(9.6, 4 + height), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title)
        upper: Figure | SubFigure = figure
        if final:
            (upper,), (lower,) = figure.subfigures(2, 1, False, height_ratios=(4, height))
            below = lower.subplots()
            final_bars(final, labels)(below)
            below.set_title(
                f"all test images in the end; chosen: the scale that is best on "
                f"{counted(scales.images, 'held-out training image')}"
            )
        for axes, (name, values) in zip(
            upper.subplots(1, 2, sharey=True), panels.items(), strict=True
        ):
            records = [
                {"model": label, "after_task": after, "accuracy": accuracy}
                for label, history in found.items()
                for after, accuracy in enumerate(values(history))
                if (label != ZERO_SHOT or after == 0) and not math.isnan(accuracy)
            ]
            x = Axis("after_task", "tasks learned", "whole")
            y = Axis("accuracy", "accuracy among all classes, %", "share")
            lines(records, x, y, ("model", labels), with_legend=False)(axes)
            axes.set_title(name)
            axes.label_outer()
        axes.set_ylim(bottom=0)  # of both, once both are drawn
        legend(axes, columns=5)
        with refusing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with new_file(path) as partial:
                figure.savefig(partial, dpi=150, format="png")


def _final(rows: Sequence[Row], scales: Scales) -> list[Record]:
    found = histories(scales.beside(rows), "agnostic")
    order = [*(label for label in found if label != ZERO_SHOT), ZERO_SHOT]
    return final_records(("", label, found[label], scales) for label in order)
