"""Line charts, as few as remain readable, drawn from records."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from magmax_jax.report.axes import Axis, label_axis, legend
from magmax_jax.report.items import Draw, Figure, Record
from magmax_jax.report.style import COLOURS, DASHES, FLAT, INK, MARKERS, slug, title_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_LINES = 8
"""Maximum number of lines in one figure; more are split over several figures."""
MAX_MARKED = 60
"""Maximum number of points of a line for which each has a marker."""
RING: dict[str, Any] = {
    "linestyle": "",
    "marker": "o",
    "markersize": 12,
    "markerfacecolor": "none",
    "markeredgecolor": INK,
}


def lines(
    records: Sequence[Record],
    x: Axis,
    y: Axis,
    colour: tuple[str, Sequence[str]],
    dash: tuple[str, Sequence[str]] | None = None,
    mark: str | None = None,
    with_legend: bool = True,
) -> Draw:
    """A line for each value of one field, or of two; models in `FLAT` are horizontal lines.

    Args:
      colour: the field, and all of its values: a value has the same colour in all figures.
      dash: the same for a second field, shown by dashes and markers; None if there is none.
      mark: boolean field of the records; true points are ringed.
      with_legend: whether to draw a legend.
    """

    def draw(axes: "Axes") -> None:
        series: dict[tuple, list[Record]] = {}
        for r in records:
            series.setdefault((r[colour[0]], r[dash[0]] if dash else None), []).append(r)
        named: set[str] = set()
        dashes = list(dash[1]) if dash else []
        for (name, second), mine in series.items():
            number = list(colour[1]).index(name)
            style = dashes.index(second) if second is not None else number
            alone = second is None or len(dashes) == 1
            label = title_of(name) if alone else f"{title_of(name)}, {title_of(second)}"
            if name in FLAT:
                for level in dict.fromkeys(r[y.field] for r in mine):
                    once = None if name in named else title_of(name)
                    axes.axhline(level, color=INK, linestyle=FLAT[name], label=once)
                    named.add(name)
                continue
            many = len(mine) > MAX_MARKED
            again = number // len(COLOURS)  # a reused colour gets other dashes
            xs, ys = ([r[axis.field] for r in mine] for axis in (x, y))
            axes.plot(
                xs,
                ys,
                linestyle=DASHES[(style if dash else again) % len(DASHES)],
                linewidth=1.1 if many else None,
                color=COLOURS[number % len(COLOURS)],
                marker="" if many else MARKERS[(style + again) % len(MARKERS)],
                label=label,
            )
            ringed = [(a, b) for r, a, b in zip(mine, xs, ys, strict=True) if mark and r.get(mark)]
            axes.plot(*zip(*ringed, strict=True) if ringed else ([], []), **RING)
        label_axis(axes, x, "x")
        label_axis(axes, y, "y")
        if with_legend:
            legend(axes)

    return draw


def line_charts(
    chart: Figure,
    x: Axis,
    y: Axis,
    kinds: tuple[str, Sequence[str]],
    always: Collection[str] = (),
    mark: str | None = None,
) -> list[Figure]:
    """One figure with a colour for each kind and dashes for each run, or one for each kind.

    Args:
      chart: its name, title, caption and records, each of which has a `run`; it draws nothing yet.
      kinds: a field of the records, and all of its values: models, rules, shares, ...
      always: kinds that belong to no run and appear in every figure.
      mark: boolean field of the records; true points are ringed.
    """
    field, values = kinds
    records = chart.records
    ours = [record for record in records if record[field] not in always]
    runs = list(dict.fromkeys(record["run"] for record in ours))
    present = [value for value in values if any(record[field] == value for record in ours)]
    if (len(present) > 1 and len(present) * len(runs) <= MAX_LINES) or len(runs) < 2:
        drawn = [r | {"run": None} if r[field] in always else r for r in records]
        dash = ("run", runs) if len(runs) > 1 else None
        return [chart._replace(draw=lines(drawn, x, y, kinds, dash, mark))]
    found = []
    for value in present:
        mine = [record for record in records if record[field] in (value, *always)]
        drawn = [r | {"run": r[field]} if r[field] in always else r for r in mine]
        draw = lines(drawn, x, y, ("run", [*runs, *always]), None, mark)
        alone = chart if len(present) == 1 else _of(chart, value)
        found.append(alone._replace(records=mine, draw=draw))
    return found


def _of(chart: Figure, value: str) -> Figure:
    title = f"{chart.title}, {title_of(value)}"
    return chart._replace(name=slug(chart.name, value), title=title)
