"""Summarises the files that are skipped in folders of images."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath

from magmax_jax.data.readers.image_suffixes import is_image
from magmax_jax.data.source import Source
from magmax_jax.errors import capped
from magmax_jax.inputs.decode import printable


def passed_over(sources: Iterable[Source]) -> list[str]:
    """A note with counts if there are any; a folder in several sources counts once."""
    paths = frozenset[str]().union(*(source.passed_over for source in sources))
    if not paths:
        return []
    kinds = Counter(map(_kind, paths))
    ranked = sorted(kinds, key=lambda kind: (-kinds[kind], kind))
    several = {kind: "s" if kind == "folder" and kinds[kind] > 1 else "" for kind in kinds}
    listed = ", ".join(capped([f"{kinds[kind]:,} {kind}{several[kind]}" for kind in ranked], 8))
    return [
        f"skipped in image folders: {listed}; only files in class folders with the suffix of an "
        "image format that Pillow opens are read"
    ]


def _kind(path: str) -> str:
    suffix = printable(PurePath(path).suffix.lower())
    if os.path.isdir(path):
        return "folder"
    if is_image(os.path.basename(path)):
        return f"{suffix} outside the class folders"
    return suffix or "without a suffix"
