"""Markdown from values and from docstrings in this repository's style."""

import inspect
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import jinja2

TEMPLATES = Path(__file__).with_name("templates")
GENERATED = "<!-- Made by `python -m tools.docs` from the package and tools/docs/templates. -->"

_SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields):$")
_ENTRY = re.compile(r"  (\S[^:]*): (.*)")


def render(template: str, **values: object) -> str:
    """A page from its template and what the package says."""
    found = jinja2.Template((TEMPLATES / template).read_text(), undefined=jinja2.StrictUndefined)
    return f"{GENERATED}\n\n{found.render(values).rstrip()}\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the characters `|` and newlines in cells are escaped."""
    lines = [
        [cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in (head, *rows)
    ]
    lines.insert(1, ["---"] * len(head))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def first_sentence(documented: object) -> str:
    """The first line of a docstring, without its full stop."""
    return (inspect.getdoc(documented) or "").split("\n", 1)[0].removesuffix(".")


def docstring(documented: object) -> str:
    """A docstring as Markdown.

    Indented blocks, which are equations, become code blocks; arguments and exceptions become lists;
    doctests are left out.
    """
    blocks = (inspect.getdoc(documented) or "").split("\n\n")
    return "\n\n".join(filter(None, map(_block, blocks)))


def _block(text: str) -> str:
    lines = text.split("\n")
    if lines[0].startswith(">>>"):
        return ""
    if section := _SECTION.match(lines[0]):
        if _ENTRY.match(lines[1]):
            return f"{section[1]}:\n\n{_entries(lines[1:])}"
        return prose(f"{section[1]}: {' '.join(line.strip() for line in lines[1:])}")
    if all(line.startswith("    ") for line in lines if line):
        return "\n".join(["```text", *(line[4:] for line in lines), "```"])
    return prose(" ".join(lines))


def _entries(lines: Sequence[str]) -> str:
    entries: list[str] = []
    for line in lines:
        if found := _ENTRY.match(line):
            entries.append(f"- `{found[1]}`: {found[2]}")
        else:
            entries[-1] += f" {line.strip()}"
    return "\n".join(map(prose, entries))


def prose(text: str) -> str:
    """Text outside code: arXiv numbers become links; `_`, `*`, `<`, `[` and `~` are literal."""
    parts = re.split(r"(`[^`]*`)", text)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"([*<\[]|(?<!\w)_|_(?!\w)|(?<=\s)~)", r"\\\1", parts[i])
        parts[i] = re.sub(
            r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", parts[i]
        )
    return "".join(parts)
