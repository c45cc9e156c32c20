"""Final accuracies as bars: each merge at its published and at its chosen scale."""

from collections.abc import Iterable, Sequence

from magmax_jax.evaluation.history import History
from magmax_jax.evaluation.metrics import last_accuracy
from magmax_jax.evaluation.scales import Scales
from magmax_jax.report.axes import Axis
from magmax_jax.report.bars import bars, bars_height
from magmax_jax.report.items import WIDTH, Draw, Record

AXIS = Axis("accuracy", "accuracy, %", "share")


def final_records(models: Iterable[tuple[str, str, History, Scales]]) -> list[Record]:
    """A record for each model: its run, its label, the origin of its scale, and its accuracy.

    Args:
      models: for each, its run's name, label and history, and the run's scales.
    """
    return [
        {
            "run": run,
            "model": label,
            "scale": scales.kind(label),
            "accuracy": last_accuracy(history, weighted=True),
            "count": int(history.counts.sum()),
        }
        for run, label, history, scales in models
    ]


def final_bars(records: Sequence[Record], labels: Sequence[str], several: bool = False) -> Draw:
    """A bar for each record, marked if its scale is published or chosen.

    Args:
      records: from `final_records`.
      labels: models that define the colours, so that they match other figures. A rule at another
        scale takes the colour of its first one.
      several: there are several runs, which are named instead of the models.
    """
    places = list(labels)
    drawn = []
    for record in records:
        label, kind = record["model"], record["scale"]
        rule, _, scale = label.partition("@")
        alike = [known for known in labels if known == label or known.startswith(f"{rule}@")]
        like = label if label in labels or not alike else alike[0]
        if like not in places:
            places.append(like)
        if several and kind and like != label:  # the legend names another scale
            kind = f"at {scale}, {kind}"
        drawn.append({**record, "name": label, "model": like, "scale": kind})
    category = Axis("run" if several else "name", "")
    return bars(drawn, category, AXIS, ("model", places), note="scale", with_legend=several)


def final_size(records: Sequence[Record], runs: int) -> tuple[float, float]:
    """Width and height in inches for the bars of this many runs."""
    return WIDTH, bars_height(len(records), runs if runs > 1 else len(records))
