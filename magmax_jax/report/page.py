"""The page: contents of a report as one self-contained HTML file."""

import base64
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from magmax_jax.report.csv_text import csv_text
from magmax_jax.report.groups import Group
from magmax_jax.report.items import (
    CHOSEN,
    Choice,
    Column,
    Figure,
    Folded,
    Grid,
    Item,
    Record,
    Table,
    percent,
)
from magmax_jax.report.render import render
from magmax_jax.report.section import Section, sections
from magmax_jax.report.style import DARK, GRID, INK, MUTED, SURFACE, slug

MAX_NAMED = 6
"""Maximum number of runs for which the page header names each."""


class Cell(NamedTuple):
    """A cell of a table: its text, and the number by which it is sorted, if any."""

    text: str
    number: float | None


class Tint(NamedTuple):
    """A cell of a grid: its text, and the share in [0, 1] that tints it, if any."""

    text: str
    share: str


class Chapter(NamedTuple):
    """A section with its items for each group of runs, by the group's title."""

    name: str
    title: str
    parts: dict[str, Sequence[Item]]


class Report(NamedTuple):
    """The page, and the files beside it by their names."""

    page: str
    files: dict[str, bytes]


def compose(groups: Sequence[Group]) -> Report:
    """Makes the page, its figures as PNG and SVG files, and its tables as CSV files."""
    chapters = _named([_chapter(*named, groups) for named in sections()], len(groups) > 1)
    chapters = [chapter for chapter in chapters if any(chapter.parts.values())]
    files: dict[str, bytes] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for item in _items(part for chapter in chapters for part in chapter.parts.values()):
        if isinstance(item, Figure):
            picture = render(item)
            files[f"figures/{item.name}.svg"] = picture.svg
            files[f"figures/{item.name}.png"] = picture.png
            sizes[item.name] = picture.size
        if isinstance(item, Figure | Table | Grid):
            files[f"data/{item.name}.csv"] = as_csv(item.records).encode()
    environment = Environment(
        loader=PackageLoader("magmax_jax.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cells": cells, "blocks": blocks, "over": over, "lines": lines}

    page = environment.get_template("page.html.j2").render(
        title=groups[0].title if len(groups) == 1 else f"{len(groups)} scenarios",
        leads=[_lead(group, len(groups) > 1) for group in groups],
        groups=groups,
        chapters=chapters,
        sizes=sizes,
        svg=lambda name: _uri(files[f"figures/{name}.svg"], "image/svg+xml"),
        csv=lambda name: _uri(files[f"data/{name}.csv"], "text/csv;charset=utf-8"),
        colours={"ink": INK, "muted": MUTED, "grid": GRID, "surface": SURFACE},
        darks=DARK,
        chosen=CHOSEN,
    )
    return Report(page, files)


def as_csv(records: Sequence[Record]) -> str:
    """Records as a CSV file with all digits; a column for every field of any record."""
    fields = list(dict.fromkeys(field for record in records for field in record))
    lines = [[record.get(field, "") for field in fields] for record in records]
    return csv_text([fields, *lines])


def cells(record: Record, columns: Sequence[Column], choices: Sequence[Choice] = ()) -> list[Cell]:
    """One row of a table, showing its first choice."""
    fields = [
        column.field.replace(CHOSEN, choices[0][0]) if choices else column.field
        for column in columns
    ]
    return [_cell(record.get(f), column) for f, column in zip(fields, columns, strict=True)]


def lines(grid: Grid) -> list[tuple[str, list[Tint]]]:
    """The rows of a grid with their names, showing its first choice."""
    label = grid.choices[0][0]
    tints = [_tint(r.get(label), r[grid.total] if grid.total else None) for r in grid.records]
    return [
        (str(grid.records[start][grid.row.field]), tints[start : start + grid.width])
        for start in range(0, len(tints), grid.width)
    ]


def blocks(items: Sequence[Item]) -> list[tuple[str, list[Item]]]:
    """Adjacent items of the same kind grouped, with the name of the kind."""
    return [(kind, list(same)) for kind, same in groupby(items, lambda item: type(item).__name__)]


def over(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """The headings above the columns' titles, and how many columns each spans."""
    return [(title, len(list(same))) for title, same in groupby(columns, lambda c: c.over)]


def _cell(value: Any, column: Column) -> Cell:
    if value is None:
        return Cell("\N{EN DASH}", None)
    if isinstance(value, int | float):
        return Cell(column.show(value) if column.show else str(value), float(value))
    return Cell(str(value), None)


def _tint(value: float | None, total: float | None) -> Tint:
    """Counts of 0 are left empty: nearly all of a large confusion matrix is 0."""
    if value is None or (total is not None and not value):
        return Tint("", "")
    share = value if total is None else value / total
    return Tint(percent(share), f"{share:.3g}")


def _lead(group: Group, several: bool) -> str:
    """The runs, named by how they differ."""
    runs = "; ".join(group.names) if len(group.runs) <= MAX_NAMED else f"{len(group.runs)} runs"
    return f"{group.title}: {runs}" if several else runs


def _chapter(name: str, section: Section, groups: Sequence[Group]) -> Chapter:
    return Chapter(name, section.title, {group.title: section.items(group) for group in groups})


def _named(chapters: Sequence[Chapter], several: bool) -> list[Chapter]:
    """Gives every figure and table a unique name, for its files and as its id."""
    taken: set[str] = set()

    def named(item: Item, prefix: str) -> Item:
        if isinstance(item, Folded):
            return item._replace(items=[named(inner, prefix) for inner in item.items])
        if not isinstance(item, Figure | Table | Grid):
            return item
        name = wanted = slug(prefix, item.name)
        number = 1
        while name in taken:
            number += 1
            name = f"{wanted}-{number}"
        taken.add(name)
        return item._replace(name=name)

    return [
        chapter._replace(
            parts={
                title: [named(item, title if several else "") for item in items]
                for title, items in chapter.parts.items()
            }
        )
        for chapter in chapters
    ]


def _items(parts: Any) -> Iterator[Item]:
    for part in parts:
        for item in part:
            yield item
            if isinstance(item, Folded):
                yield from _items([item.items])


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
