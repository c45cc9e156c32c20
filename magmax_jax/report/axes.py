"""Axes and their labels."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from magmax_jax.report.items import MINUS

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Axis(NamedTuple):
    """An axis: the field of the records, its label with the unit, and how it is spaced.

    Attributes:
      kind: share (in [0, 1], shown in per cent), root (the same on a square-root scale, so that
        small shares can be distinguished), number, whole, or log.
      low: where the axis begins, if not at the smallest value.
    """

    field: str
    label: str
    kind: str = "number"
    low: float | None = None


def label_axis(axes: "Axes", axis: Axis, which: str) -> None:
    from matplotlib.ticker import FixedLocator, MaxNLocator, PercentFormatter

    ours = getattr(axes, f"{which}axis")
    rescale = getattr(axes, f"set_{which}scale")
    axes.set(**{f"{which}label": axis.label})
    if axis.kind == "root":
        rescale("function", functions=(_root, _square))
        ours.set_major_locator(FixedLocator([0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 1]))
    if axis.kind == "log":
        rescale("log")
    if axis.kind == "whole":
        ours.set_major_locator(MaxNLocator(integer=True, nbins=8))
    if axis.low is not None:
        axes.set(**{f"{which}lim": (axis.low, None)})
    if axis.kind in ("share", "root"):
        low, high = axes.dataLim.intervalx if which == "x" else axes.dataLim.intervaly
        digits = 0 if high - low >= 0.05 or axis.kind == "root" else 1 if high - low > 0.005 else 2
        if axis.kind == "share":
            ours.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
        ours.set_major_formatter(PercentFormatter(1, symbol="", decimals=digits))


def legend(axes: "Axes", columns: int | None = None) -> None:
    """Places the legend below the figure, which grows to make room for it."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) < 2:
        return
    longest = max(map(len, labels))
    columns = columns or (1 if longest > 26 else 2 if longest > 14 else 3)
    columns = min(len(labels), columns)
    axes.figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    figure = axes.figure.figure
    figure.set_figheight(figure.get_figheight() + 0.2 * (-(-len(labels) // columns) - 1))


def shortened(name: str, longest: int = 22) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def digits_of(number: float, kind: str, digits: int = 0) -> str:
    shown = {"share": f"{100 * number:z.{digits}f}", "whole": f"{number:.0f}"}
    return shown.get(kind, f"{number:z.2f}").replace("-", MINUS)


def _root(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.sqrt(np.abs(values))  # margins extend below 0


def _square(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.square(values)
