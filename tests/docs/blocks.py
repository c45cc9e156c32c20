"""The code blocks of README and of the pages in `docs/`, and the commands in them."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = ("README.md", *sorted(p.relative_to(ROOT).as_posix() for p in DOCS.rglob("*.md")))

LANGUAGES = {"bash", "python", "json", "text", "yaml", "bibtex"}
"""Every block is one of these; `bash` and `python` are run."""

_FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]*) -->\n+)?"
    r"^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """One fenced block.

    Attributes:
      page: as in `PAGES`.
      line: of its first line of text, from 1.
      reason: why it is not run, from a comment above it; "" if it is.
    """

    page: str
    line: int
    language: str
    text: str
    reason: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str) -> list[Block]:
    """Every block of a page, in order."""
    content = (ROOT / page).read_text()
    return [
        Block(
            page,
            content.count("\n", 0, found.start("text")) + 1,
            (found["language"].split() or ["text"])[0],
            found["text"],
            (found["reason"] or "").strip(),
        )
        for found in _FENCE.finditer(content)
    ]


def commands(block: Block) -> list[list[str]]:
    """The commands of a `bash` block as words; those joined by `&&` are several."""
    found: list[list[str]] = []
    for line in re.sub(r"\\\n\s*", " ", block.text).splitlines():
        words = shlex.split(line, comments=True)
        while "&&" in words:
            at = words.index("&&")
            found.append(words[:at])
            words = words[at + 1 :]
        found.append(words)
    return [words for words in found if words]


def of_magmax(words: list[str]) -> list[str] | None:
    """The arguments of `magmax` that a command gives; None if it is another program."""
    if words[0] == "magmax":
        return words[1:]
    if words[:2] == ["python", "-m"]:
        if words[2] == "magmax_jax":
            return words[3:]
        package, _, name = words[2].partition(".")
        if package == "experiments" and name != "pretrain_tiny_clip":
            return [name, *words[3:]]
    return None


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
