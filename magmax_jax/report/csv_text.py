"""Tables as CSV, which spreadsheets open without computing what names say."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t")
"""Beginnings of a text that spreadsheets take for a formula."""


def csv_text(lines: Iterable[Sequence[Any]]) -> str:
    """Lines of cells as CSV; numbers keep all their digits.

    A text that spreadsheets would compute, a class named `=1+1`, has an apostrophe before it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_harmless(cell) for cell in line] for line in lines)
    return text.getvalue()


def _harmless(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    # A carriage return alone is not quoted by the csv module, and splits the line for readers.
    cell = cell.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{cell}" if cell.startswith(FORMULA) else cell
