"""Which classes are taken for which: figures and tables of counts by label and prediction."""

from collections.abc import Iterable

import numpy as np

from magmax_jax.evaluation.counts import as_matrix
from magmax_jax.report.axes import Axis
from magmax_jax.report.heat_maps import heat_map
from magmax_jax.report.items import (
    WIDTH,
    Choice,
    Column,
    Figure,
    Folded,
    Grid,
    Item,
    Record,
    Table,
    percent,
    whole,
)
from magmax_jax.report.runs import Run
from magmax_jax.report.style import slug, title_of
from magmax_jax.runs.model_ref import FINETUNED, ZERO_SHOT

PAIRS = 20
"""Number of most confused pairs shown."""
DRAWN_CLASSES = 1_000
"""Maximum number of classes for which the heat map has a row and a column each."""
GRID_CLASSES = 200
"""Maximum number of classes for which the page shows confusions as a grid."""
GRID_CELLS = 2_500_000
"""Maximum size of all models' confusions for which that grid offers all models: about 5 MB."""


def best_confusions(run: Run, counts: dict[str, np.ndarray], names: list[str]) -> list[Item]:
    """The confusions of the run's best model as a figure, and its most frequent mistakes."""
    total, best = counts["total"].sum((0, 1)).tolist(), title_of(run.shown(run.best))
    records: list[Record] = [
        {"label": names[i], "predicted": names[j], "count": count, "share": count / total[i]}
        for i, j, count in counts["confusions"].tolist()
    ]
    wrong = [record for record in records if record["label"] != record["predicted"]]
    wrong.sort(key=lambda record: (-record["count"], record["label"], record["predicted"]))
    every, drawn, note = names, records, ""
    if len(names) > DRAWN_CLASSES:
        size = -(-len(names) // DRAWN_CLASSES)
        every, drawn = _in_blocks(counts, size)
        note = f" A cell of the figure stands for {size} by {size} classes, numbered from 0."
    small = len(names) <= 24
    columns = [
        Column("label", "Class"),
        Column("predicted", "Taken for"),
        Column("count", "Test images", whole),
        Column("share", "Share of the class, %", percent),
    ]
    return [
        Figure(
            slug("confusion", run.name),
            f"Confusion, {best}",
            "Share of each class's test images (a row) taken for each class (a column), among all "
            f"classes. Counts that are 0 are left out of the CSV file.{note}",
            records,
            heat_map(
                [*({"label": n, "predicted": n, "share": 0.0} for n in every), *drawn],  # in order
                Axis("label", "class"),
                Axis("predicted", "taken for"),
                Axis("share", "share of the class, %", "share"),
                missing=0.0,
            ),
            "heat map",
            (WIDTH, 4.2 if small else 4.6),
        ),
        Table(
            slug("confused-pairs", run.name),
            "The most confused pairs",
            f"The {min(PAIRS, len(wrong))} most frequent mistakes of {best}.",
            wrong[:PAIRS],
            columns,
        ),
    ]


def _in_blocks(counts: dict[str, np.ndarray], size: int) -> tuple[list[str], list[Record]]:
    """Names of blocks of neighbouring classes, and the confusions summed over them."""
    total, (label, predicted, samples) = counts["total"].sum((0, 1)), counts["confusions"].T
    starts = range(0, len(total), size)
    names = [f"{start} to {min(start + size, len(total)) - 1}" for start in starts]
    of_block = np.add.reduceat(total, starts)
    cells, cell_of = np.unique(label // size * len(starts) + predicted // size, return_inverse=True)
    shares = np.bincount(cell_of, samples) / of_block[cells // len(starts)]
    return names, [
        {"label": names[i], "predicted": names[j], "share": share}
        for i, j, share in zip(*divmod(cells, len(starts)), shares.tolist(), strict=True)
    ]


def selectable(run: Run, labels: Iterable[str]) -> list[Choice]:
    """Models that the reader can select, by their labels."""
    return [(label, title_of(run.shown(label))) for label in labels]


def any_confusions(
    run: Run, counts: dict[str, dict[str, np.ndarray]], names: list[str]
) -> list[Item]:
    """The confusions of every model; of the main ones if all would make a page too large."""
    if len(names) > GRID_CLASSES:
        return []
    main = {run.best, FINETUNED, ZERO_SHOT}
    if len(names) ** 2 * len(counts) > GRID_CELLS:
        counts = {label: found for label, found in counts.items() if label in main}
    total = counts[run.best]["total"].sum((0, 1))
    matrices = {
        label: as_matrix(found["confusions"], len(names)) for label, found in counts.items()
    }
    records = [
        {"label": names[i], "predicted": names[j], "images": int(total[i])}
        | {label: int(found[i, j]) for label, found in matrices.items()}
        for i, j in np.ndindex(len(names), len(names))
    ]
    grid = Grid(
        slug("confusions", run.name),
        "Confusion by model",
        "Share of each class's test images (a row) taken for each class (a column), among all "
        "classes, in %; empty: none. The CSV file has counts.",
        records,
        Column("label", "class"),
        Column("predicted", "taken for"),
        len(names),
        selectable(run, counts),
        total="images",
    )
    return [Folded("Confusion of any model", [grid])]
