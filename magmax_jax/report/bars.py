"""Bar charts of single values and of shares, drawn from records."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from magmax_jax.report.axes import Axis, digits_of, label_axis, legend, shortened
from magmax_jax.report.items import Draw, Record
from magmax_jax.report.style import COLOURS, MUTED, title_of
from magmax_jax.runs.model_ref import ZERO_SHOT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_VALUES = 60
"""Maximum number of bars for which each shows its value."""
INCHES_A_LETTER = 0.07
"""Average width of a letter of the text behind a bar."""


def bars(
    records: Sequence[Record],
    category: Axis,
    value: Axis,
    colour: tuple[str, Sequence[str]],
    note: str | None = None,
    with_legend: bool = True,
) -> Draw:
    """Horizontal bars, top to bottom: the bars of a category touch, and each has its own colour.

    Args:
      colour: the field, and all of its values: a value has the same colour in all figures.
      note: field of the records whose text follows a bar's number.
      with_legend: whether to draw a legend, unless the colours are those of the categories.
    """

    def draw(axes: "Axes") -> None:
        categories = list(dict.fromkeys(r[category.field] for r in records))
        legend_shown = with_legend and category.field != colour[0]
        apart = 0.9 if legend_shown else 0.4
        places: dict[str, list[float]] = {name: [] for name in categories}
        drawn: dict[str, tuple[list[float], list[float]]] = {}
        notes: dict[str, list[str]] = {}
        place = 0.0
        for name in categories:
            for r in (r for r in records if r[category.field] == name):
                places[name].append(place)
                where, lengths = drawn.setdefault(r[colour[0]], ([], []))
                where.append(place)
                lengths.append(r[value.field])
                notes.setdefault(r[colour[0]], []).append(r[note] if note else "")
                place += 1
            place += apart
        for name in (name for name in colour[1] if name in drawn):
            number = list(colour[1]).index(name)
            shade = MUTED if name == ZERO_SHOT else COLOURS[number % len(COLOURS)]
            bar = axes.barh(*drawn[name], height=0.94, color=shade, label=title_of(name))
            if place < MAX_VALUES:
                shown = [
                    f"{digits_of(length, value.kind, 1)} {words}".rstrip()
                    for length, words in zip(drawn[name][1], notes[name], strict=True)
                ]
                axes.bar_label(bar, shown, padding=3, fontsize=8.5)
        axes.axvline(0, color=MUTED, linewidth=0.8)
        middles = [sum(each) / len(each) for each in places.values()]
        axes.set_yticks(middles, [shortened(title_of(str(name))) for name in categories])
        axes.set_ylabel(category.label)
        axes.invert_yaxis()
        # The numbers of negative bars are between the bars and the names.
        left = any(r[value.field] < 0 for r in records)
        longest = max((len(words) for each in notes.values() for words in each), default=0)
        room = longest * INCHES_A_LETTER / (0.6 * axes.figure.figure.get_figwidth())
        axes.margins(x=(0.22 if left else 0.12) + room, y=0.02)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        label_axis(axes, value, "x")
        if legend_shown:
            legend(axes)

    return draw


def bars_height(bars: int, categories: int) -> float:
    """Height in inches for this many bars."""
    return min(1.2 + 0.17 * bars + 0.12 * categories, 11)


def stacked(records: Sequence[Record], category: Axis, value: Axis, part: str) -> Draw:
    """Horizontal stacked bars of shares: ordered parts, from dark (first) to bright (last)."""

    def draw(axes: "Axes") -> None:
        import matplotlib

        categories = list(dict.fromkeys(r[category.field] for r in records))
        parts = list(dict.fromkeys(r[part] for r in records))
        colours = matplotlib.colormaps["viridis"](np.linspace(0.08, 0.95, len(parts)))
        left = np.zeros(len(categories))
        for name, shade in zip(parts, colours, strict=True):
            each = {r[category.field]: r[value.field] for r in records if r[part] == name}
            width = np.array([each.get(c, 0.0) for c in categories])
            axes.barh(
                range(len(categories)), width, left=left, height=0.78, color=shade, label=name
            )
            left += width
        axes.set_yticks(range(len(categories)), [shortened(str(c), 26) for c in categories])
        axes.set_ylabel(category.label)
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.tick_params(axis="y", length=0)
        label_axis(axes, value, "x")
        axes.set_xlim(0, 1)
        legend(axes, columns=4 if len(parts) > 6 else 3)

    return draw
