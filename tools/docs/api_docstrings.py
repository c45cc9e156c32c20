"""Docstrings as Markdown for the API pages: an extension of griffe, loaded by `mkdocs.yml`.

It imports nothing of the package, which the documentation's environment lacks.
"""

import re
from typing import Any

import griffe

_SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields):$")


def as_markdown(docstring: str) -> str:
    r"""Doctests become code blocks, and square brackets in prose are not links.

    >>> print(as_markdown("In [0, 1].\n\n>>> 1 + 1\n2"))
    In \[0, 1].
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    """
    return "\n\n".join(map(_block, docstring.split("\n\n")))


def _block(text: str) -> str:
    if text.startswith(">>>"):
        return f"```pycon\n{text}\n```"
    lines = text.split("\n")
    in_section = _SECTION.match(lines[0])
    if not in_section and all(line.startswith("    ") for line in lines):
        return text  # an equation or a program
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [part.replace("[", "\\[") for part in parts[::2]]
    return "".join(parts)


class Docstrings(griffe.Extension):
    """Applies `as_markdown` to every docstring."""

    def __init__(self) -> None:
        self._done: set[int] = set()

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        docstring = obj.docstring
        if docstring is not None and id(docstring) not in self._done:
            docstring.value = as_markdown(docstring.value)
            self._done.add(id(docstring))
