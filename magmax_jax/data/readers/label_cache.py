"""Caches labels and names of prepared data sets, which are found only by reading every image."""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from magmax_jax.data.readers.tfds_records import read_columns
from magmax_jax.io.atomic import new_file

_kept: dict[tuple[str, str], tuple[np.ndarray, list[str]]] = {}
"""(folder, stamp) -> columns that this process read."""

WORTH = 1 << 28
"""Size in bytes from which a data set's columns are cached next to it, for other processes."""


def columns(records: Any, folder: str, part: str, key: str | None) -> tuple[np.ndarray, list[str]]:
    """`read_columns`, cached in memory or in a file next to the data while that is unchanged.

    Args:
      records: the data source of `part`.
      folder: of its files.
      part: the TFDS split, or several joined by +.
    """
    files = _files(Path(folder))
    if not files:  # not on a disk
        return read_columns(records, key)
    stamp = hashlib.sha256(json.dumps([part, key, files]).encode()).hexdigest()
    if (folder, stamp) not in _kept:
        worth = sum(size for _, size, _ in files) >= WORTH
        path = Path(folder) / f"columns-{part}{f'-{key}' if key else ''}.npz"
        found = _load(path, stamp, len(records), key) if worth else None
        if found is None:
            found = read_columns(records, key)
            if worth:
                _save(path, stamp, *found)
        found[0].flags.writeable = False
        _kept[folder, stamp] = found
    return _kept[folder, stamp]


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of every shard; [] if none are visible."""
    try:
        shards = [(path.name, path.stat()) for path in sorted(folder.glob("*-of-*"))]
    except OSError:
        return []
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in shards]


def _load(
    path: Path, stamp: str, count: int, key: str | None
) -> tuple[np.ndarray, list[str]] | None:
    """What `_save` wrote; None if there is no such file, or it belongs to other data."""
    try:
        # NumPy does not close damaged files that it opened itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            labels, texts = kept["labels"], kept["texts"].tolist()
            same = kept["stamp"].item() == stamp
    except Exception:  # numpy and zipfile raise many kinds of errors
        return None
    fits = labels.shape == (count,) and len(texts) == (count if key else 0)
    return (labels, texts) if same and fits and labels.dtype == np.int32 else None


def _save(path: Path, stamp: str, labels: np.ndarray, texts: list[str]) -> None:
    """Writes the file atomically; does nothing if that fails."""
    with contextlib.suppress(OSError), new_file(path) as partial, partial.open("wb") as file:
        np.savez(file, stamp=stamp, labels=labels, texts=np.array(texts, np.str_))
