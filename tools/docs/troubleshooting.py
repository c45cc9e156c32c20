"""The page of troubleshooting: symptoms, then every sentence that errors can say."""

import html
import re

from tools.docs.error_texts import ErrorText, error_texts
from tools.docs.markdown import render

TOPICS = {
    "Command line": ("cli", "errors.py", "registry", "former_names.py"),
    "Configuration": ("config", "api"),
    "Models": ("models",),
    "Images, prompts and preprocessing": ("inputs",),
    "Data sets and folders of images": ("data",),
    "Scenarios": ("scenarios",),
    "Training": ("training",),
    "Devices and processes": ("sharding.py", "devices", "devices.py", "doctor.py"),
    "Runs: resuming, checkpoints, exporting": ("runs",),
    "Merge rules": ("merging", "refit", "rules"),
    "Merging files": ("merge_files",),
    "mergekit recipes": ("recipes", "mergekit"),
    "Reading and writing files, the hub": ("io",),
    "Analysis": ("analysis", "evaluation"),
    "Reports and tables": ("report",),
}
"""Headings, and the packages whose sentences stand below them."""


def page() -> str:
    found = error_texts()
    sections = [_section(title, found, rooms) for title, rooms in TOPICS.items()]
    covered = {room for rooms in TOPICS.values() for room in rooms}
    others = {text.file.split("/")[0] for text in found} - covered
    sections.append(_section("Others", found, tuple(sorted(others))))
    text = "\n\n".join(filter(None, sections))
    return render("troubleshooting.md", count=len(found), sections=text)


def _section(title: str, found: list[ErrorText], rooms: tuple[str, ...]) -> str:
    texts = {text.text for text in found if text.file.split("/")[0] in rooms}
    lines = [f"- {_shown(text)}" for text in sorted(texts, key=_words)]
    return f"### {title}\n\n" + "\n".join(lines) if lines else ""


def _words(text: str) -> str:
    """Sorts by what is always said: names in front come last in the comparison."""
    return "".join(c for c in text.split("⟩")[-1] + text if c.isalnum() or c == " ").strip().lower()


def _shown(text: str) -> str:
    escaped = html.escape(text, quote=False)
    return re.sub(r"([\\`*\[~#]|(?<!\w)_|_(?!\w))", r"\\\1", escaped)
