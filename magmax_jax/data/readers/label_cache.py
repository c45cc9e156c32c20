"""Labels and names of prepared data sets, for which every image must be read: once, then kept."""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from magmax_jax.data.readers.tfds_records import read_columns
from magmax_jax.io.atomic import new_file

_kept: dict[tuple[str, str], tuple[np.ndarray, list[str]]] = {}
"""(folder, stamp) -> what this process read."""

WORTH = 1 << 28
"""Bytes of a data set from which on its columns are kept beside it, for the next process."""


def columns(records: Any, folder: str, part: str, key: str | None) -> tuple[np.ndarray, list[str]]:
    """`read_columns`, from memory or from a file beside the data while the data is the same.

    Args:
      records: the data source of `part`.
      folder: where its files lie.
      part: the TFDS split, or several joined by +.
    """
    files = _files(Path(folder))
    if not files:  # elsewhere than on a disk
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
    """Name, size and time of every shard; [] where there are none to be seen."""
    try:
        shards = [(path.name, path.stat()) for path in sorted(folder.glob("*-of-*"))]
    except OSError:
        return []
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in shards]


def _load(
    path: Path, stamp: str, count: int, key: str | None
) -> tuple[np.ndarray, list[str]] | None:
    """What `_save` wrote; None where there is nothing of the kind, or it is of other files."""
    try:
        # NumPy does not close a damaged file that it opened itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            labels, texts = kept["labels"], kept["texts"].tolist()
            same = kept["stamp"].item() == stamp
    except Exception:  # numpy's and zipfile's errors differ by what is wrong with it
        return None
    fits = labels.shape == (count,) and len(texts) == (count if key else 0)
    return (labels, texts) if same and fits and labels.dtype == np.int32 else None


def _save(path: Path, stamp: str, labels: np.ndarray, texts: list[str]) -> None:
    """Writes the file whole; does nothing where the disk refuses."""
    with contextlib.suppress(OSError), new_file(path) as partial, partial.open("wb") as file:
        np.savez(file, stamp=stamp, labels=labels, texts=np.array(texts, np.str_))
