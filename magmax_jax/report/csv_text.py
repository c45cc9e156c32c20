"""Tables as CSV; spreadsheets open them without evaluating names as formulas."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t")
"""Characters that start a formula in spreadsheets."""


def csv_text(lines: Iterable[Sequence[Any]]) -> str:
    """Lines of cells as CSV; numbers keep all their digits.

    A text that spreadsheets would evaluate, such as a class named `=1+1`, is prefixed with an
    apostrophe.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_harmless(cell) for cell in line] for line in lines)
    return text.getvalue()


def _harmless(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    # The csv module does not quote a lone carriage return, which readers treat as a line break.
    cell = cell.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{cell}" if cell.startswith(FORMULA) else cell
