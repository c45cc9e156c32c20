"""Heat maps, drawn from records."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from magmax_jax.report.axes import Axis, digits_of, shortened
from magmax_jax.report.items import Draw, Record
from magmax_jax.report.style import ON_DARK, ON_LIGHT, title_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_LABELLED = 12
"""Maximum number of rows and columns for which a heat map's cells show their values."""
CELL_WIDTH = 250
"""Type size in points, times the digits of all columns, at which a heat map's numbers fit."""
MAX_NAMED = 24
"""Maximum number of rows and columns for which a heat map names all of them."""


def heat_map(
    records: Sequence[Record],
    row: Axis,
    column: Axis,
    value: Axis,
    centred: bool = False,
    missing: float = np.nan,
) -> Draw:
    """A cell for each row and column, from the top and from the left.

    Args:
      value: shares are shown in per cent, without the per cent sign.
      centred: colours diverge from 0, which is white; otherwise they run from 0 to the largest.
      missing: value of cells without a record; NaN leaves them empty.
    """

    def draw(axes: "Axes") -> None:
        from matplotlib.ticker import PercentFormatter

        rows = list(dict.fromkeys(r[row.field] for r in records))
        columns = list(dict.fromkeys(r[column.field] for r in records))
        rows_at, columns_at = ({v: i for i, v in enumerate(vs)} for vs in (rows, columns))
        cells = np.full((len(rows), len(columns)), missing)
        for r in records:
            cells[rows_at[r[row.field]], columns_at[r[column.field]]] = r[value.field]
        high = 1.0 if value.kind == "share" else max(float(np.nanmax(np.abs(cells))), 1e-9)
        if centred:
            high = max(float(np.nanmax(np.abs(cells))), 1e-9)
        low = -high if centred else 0.0
        image = axes.imshow(
            cells,
            cmap="RdBu" if centred else "viridis",
            vmin=low,
            vmax=high,
            aspect="auto",
            interpolation="none",
        )
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        if max(cells.shape) <= MAX_LABELLED and (size := _type_size(cells, value)) > 5:
            for (i, j), number in np.ndenumerate(cells):
                if not np.isnan(number):
                    red, green, blue, _ = image.to_rgba(number)
                    bright = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.45
                    axes.text(
                        j,
                        i,
                        digits_of(number, value.kind),
                        ha="center",
                        va="center",
                        fontsize=size,
                        color=ON_LIGHT if bright else ON_DARK,
                    )
        _names(axes, rows, columns)
        axes.set_xlabel(column.label)
        axes.set_ylabel(row.label)
        bar = axes.figure.colorbar(
            image, ax=axes, label=value.label, fraction=0.06, pad=0.03, aspect=40
        )
        bar.outline.set_visible(False)
        if bar.solids is not None:
            bar.solids.set_rasterized(True)
        if value.kind == "share":
            bar.ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))

    return draw


def _type_size(cells: np.ndarray, value: Axis) -> float:
    """The size in points at which the cells' numbers fit, at most 9."""
    longest = max(len(digits_of(number, value.kind)) for number in cells[~np.isnan(cells)])
    return min(9.0, CELL_WIDTH / (cells.shape[1] * longest))


def _names(axes: "Axes", rows: list[str], columns: list[str]) -> None:
    for names, axis, longest in ((columns, axes.xaxis, 15), (rows, axes.yaxis, 20)):
        step = 1 if len(names) <= MAX_NAMED else -(-len(names) // 10)
        shown = [shortened(title_of(str(name)), longest) for name in names[::step]]
        turned = axis is axes.xaxis and max(map(len, shown)) * len(shown) > 36
        axis.set_ticks(
            range(0, len(names), step),
            shown,
            rotation=90 if turned else 0,
            fontsize=9 if len(shown) <= 16 else 7,
        )
