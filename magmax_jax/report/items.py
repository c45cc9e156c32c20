"""What a report is made of: values that the page, the picture files and the CSV files share."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 4.3
"""Inches: as much as a phone can show with letters large enough to read."""

Record = dict[str, Any]
"""One line of a CSV file: strings, numbers or None by column."""
Draw = Callable[["Axes"], None]


def _nothing(axes: "Axes") -> None:
    """Leaves the axes empty."""


class Figure(NamedTuple):
    """One panel and the numbers that it shows.

    Attributes:
      name: of its files, and its id on the page.
      caption: what is seen, and by which definition.
      records: the numbers drawn.
      draw: draws them; by default nothing, in a figure that is yet to be completed.
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
      title: with the unit, where there is one.
      show: makes the text of a value that is a number; others are shown as they are.
      over: stands once above neighbours that share it.
    """

    field: str
    title: str
    show: Callable[[float], str] | None = None
    over: str = ""


CHOSEN = "{model}"
"""In fields of a table or grid with choices: stands for the label of the model chosen."""

Choice = tuple[str, str]
"""A model's label, and what readers call it."""


class Table(NamedTuple):
    """Records as a table that its reader can sort.

    Attributes:
      records: its lines; None is shown as a dash.
      columns: what of them is shown; the CSV file has all of it.
      choices: models among which the reader chooses one, the first to begin with; the columns whose
        fields hold `CHOSEN` show it. The page reads the others from the table's CSV file.
    """

    name: str
    title: str
    caption: str
    records: Sequence[Record]
    columns: Sequence[Column]
    choices: Sequence[Choice] = ()


class Grid(NamedTuple):
    """Shares by row and column, one model's at a time, as a table whose cells are tinted.

    Attributes:
      records: one a cell, line by line; a field for every model, by its label.
      row: the field that names the lines, with what they are.
      column: the same of the columns.
      width: how many columns there are; names may repeat.
      total: what a cell's number is divided by to have a share; a field of the records, or "" where
        numbers are shares already.
      choices: models among which the reader chooses one, the first to begin with. The page reads
        the others from the grid's CSV file.
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
    """A headline number, its unit, and what it is."""

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
    """Over what belongs together within a section."""

    title: str


class Folded(NamedTuple):
    """What is shown when its title is pressed."""

    title: str
    items: Sequence["Item"]


MINUS = "\N{MINUS SIGN}"
"""As wide as a plus, and a digit."""

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
