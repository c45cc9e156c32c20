"""Building blocks of a report, shared by the page, the picture files and the CSV files."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 4.3
"""Inches: the width at which text is still readable on a phone."""

Record = dict[str, Any]
"""One line of a CSV file: strings, numbers or None by column."""
Draw = Callable[["Axes"], None]


def _nothing(axes: "Axes") -> None:
    """Leaves the axes empty."""


class Figure(NamedTuple):
    """One panel and the numbers that it shows.

    Attributes:
      name: name of its files, and its id on the page.
      caption: what the figure shows, and by which definition.
      records: the numbers drawn.
      draw: draws them; the default draws nothing, for a figure to be completed later.
      kind: alt text for screen readers, e.g. "line chart".
      size: width and height in inches; a legend of several lines adds to it.
    """

    name: str
    title: str
    caption: str
    records: Sequence[Record]
    draw: Draw = _nothing
    kind: str = "line chart"
    size: tuple[float, float] = (WIDTH, 3.2)


class Column(NamedTuple):
    """A column of a table.

    Attributes:
      field: of the records.
      title: with the unit, if any.
      show: formats a number; other values are shown as they are.
      over: heading above adjacent columns that share it.
    """

    field: str
    title: str
    show: Callable[[float], str] | None = None
    over: str = ""


CHOSEN = "{model}"
"""Placeholder for the chosen model's label in fields of a table or grid with choices."""

Choice = tuple[str, str]
"""A model's label, and its display name."""


class Table(NamedTuple):
    """Records as a table that readers can sort.

    Attributes:
      records: its rows; None is shown as a dash.
      columns: the fields shown; the CSV file has all of them.
      choices: models that the reader can select, initially the first; columns whose fields contain
        `CHOSEN` show it. The page reads the other models from the table's CSV file.
    """

    name: str
    title: str
    caption: str
    records: Sequence[Record]
    columns: Sequence[Column]
    choices: Sequence[Choice] = ()


class Grid(NamedTuple):
    """Shares by row and column, for one model at a time, as a table with tinted cells.

    Attributes:
      records: one per cell, row by row; a field for every model, by its label.
      row: the field that names the rows, and its title.
      column: the same for the columns.
      width: number of columns; names may repeat.
      total: field of the records by which a cell's number is divided to give a share, or "" if the
        numbers are shares already.
      choices: models that the reader can select, initially the first. The page reads the others
        from the grid's CSV file.
    """

    name: str
    title: str
    caption: str
    records: Sequence[Record]
    row: Column
    column: Column
    width: int
    choices: Sequence[Choice]
    total: str = ""


class Tile(NamedTuple):
    """A headline number, its unit, and its description."""

    title: str
    value: str
    unit: str
    note: str


class Tiles(NamedTuple):
    """Headline numbers side by side."""

    title: str
    tiles: Sequence[Tile]


class Note(NamedTuple):
    """A sentence or two, and a command to copy, if any."""

    text: str
    command: str = ""


class Heading(NamedTuple):
    """A heading within a section."""

    title: str


class Folded(NamedTuple):
    """Content that is shown when its title is clicked."""

    title: str
    items: Sequence["Item"]


MINUS = "\N{MINUS SIGN}"
"""A minus sign as wide as a plus and a digit."""

Item = Figure | Table | Grid | Tiles | Note | Heading | Folded


def percent(value: float) -> str:
    """A share in [0, 1] in per cent, or a difference of shares in points."""
    return f"{100 * value:z.1f}".replace("-", MINUS)


def whole(value: float) -> str:
    return f"{value:,.0f}"


def figures_shown(value: float) -> str:
    """Three significant figures."""
    return f"{value:.3g}".replace("-", MINUS)


def megabytes(value: float) -> str:
    return figures_shown(value / 1e6) if value < 1e9 else whole(value / 1e6)
