"""Results as Markdown tables and as rows of JSON: to the terminal, FILE.md and FILE.jsonl."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender, take_turns

Columns = Mapping[str, Callable[[Any], str]]
"""By heading, a function from a row to its cell."""


def table(labels: Columns, columns: Columns, rows: Iterable[Any]) -> str:
    """A table row for each of `rows`; a row with a `failure` shows it instead of the columns."""

    def cells(row: Any) -> list[str]:
        named = [cell(row) for cell in labels.values()]
        if failure := getattr(row, "failure", None):
            return [*named, failure, *[""] * (len(columns) - 1)]
        return [*named, *(cell(row) for cell in columns.values())]

    return markdown([*labels, *columns], [cells(row) for row in rows])


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first and last columns are text, all others are right-aligned."""
    widths = [max(map(len, cells)) for cells in zip(headings, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:-1]), "-" * widths[-1]]
    return "\n".join([line(headings), line(rule), *map(line, rows)])


def name(contender: Contender) -> str:
    return contender.name


def label(of: str) -> Callable[[Contender], str]:
    """The cell of one of a contender's labels."""
    return lambda contender: str(contender.labels[of])


def median(digits: str = ".2f") -> Callable[[Contender], str]:
    return lambda contender: format(contender.median(), digits)


def every(digits: str = ".2f") -> Callable[[Contender], str]:
    """Seconds of all calls."""
    return lambda contender: " ".join(format(seconds, digits) for seconds in contender.seconds)


def ratio(a: float | None, b: float | None) -> str:
    """a divided by b; "" if either is missing."""
    return f"{a / b:.2f}" if a and b else ""


def size(nbytes: float) -> str:
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.0f} MB"


class Output:
    """Writes results as they come, so that an interrupted run keeps its measurements."""

    def __init__(self, path: Path | None, environment: Mapping[str, str]):
        """Overwrites both files, starting with the environment."""
        self._path = path
        if path:
            path.write_text("")
            path.with_suffix(".jsonl").write_text("")
        self.show("\n".join(f"- {name}: {value}" for name, value in environment.items()))
        self.record({"environment": dict(environment)})

    def show(self, text: str) -> None:
        """Prints and writes Markdown, a paragraph or more."""
        print(text, end="\n\n", flush=True)
        if self._path:
            with self._path.open("a") as file:
                file.write(text + "\n\n")

    def record(self, row: Mapping[str, Any]) -> None:
        if self._path:
            with self._path.with_suffix(".jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")

    def measure(self, contenders: Sequence[Contender], repeats: int) -> None:
        """Lets contenders take turns, and records every call and each contender's outcome."""
        take_turns(contenders, repeats, self.called)
        self.ended(*contenders)

    def called(self, one: Contender) -> None:
        """Reports and records the call that has just ended."""
        title = ", ".join([one.name, *(f"{key} {value}" for key, value in one.labels.items())])
        result = one.failure or f"{one.seconds[-1]:.4g} s"
        print(f"{title}: {result}", file=sys.stderr, flush=True)
        row = {"contender": one.name, **one.labels, "repeat": len(one.calls) - 1}
        self.record(row | one.calls[-1])

    def ended(self, *contenders: Contender) -> None:
        """Records what they reported, and their outcomes."""
        for one in contenders:
            row = {"contender": one.name, **one.labels, "outcome": one.failure or "ok"}
            self.record(row | {"facts": one.facts})
