"""In what two configurations differ."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PATHS = ("model.source", "model.text_source", "scenario.data_dir")
"""Fields of the configuration that may name a directory."""


def differences(
    stored: Any, ours: Any, paths: Mapping[str, Sequence[str]], where: str = ""
) -> Iterator[str]:
    """Fields in which two configurations differ, as `train.epochs: 10 there, 5 here`.

    Args:
      paths: stored path -> other places where its directory may be.
    """
    if isinstance(stored, dict) and isinstance(ours, dict):
        for name in stored.keys() | ours.keys():
            inner = f"{where}.{name}" if where else name
            yield from differences(stored.get(name), ours.get(name), paths, inner)
    elif stored != ours and not (
        where in PATHS
        and any(_same_directory(each, ours) for each in (stored, *paths.get(str(stored), ())))
    ):
        yield f"{where or 'all of it'}: {stored} there, {ours} here"


def _same_directory(stored: Any, ours: Any) -> bool:
    """Whether both paths lead to the same directory, e.g. after a move that left a link behind."""
    named = isinstance(stored, str) and isinstance(ours, str)
    return named and os.path.isdir(stored) and os.path.realpath(stored) == os.path.realpath(ours)
