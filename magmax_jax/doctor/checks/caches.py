"""Folders that keep downloaded models, compiled programs and prepared data sets."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from magmax_jax.api.compilation_cache import default_cache
from magmax_jax.doctor.check import Check, Finding, Severity
from magmax_jax.io.folders import existing_parent
from magmax_jax.registry import CHECKS

SECONDS = 0.5
"""How long the size of one folder is measured; then it is a lower bound."""


class Cache(NamedTuple):
    """A folder that magmax_jax writes to.

    Attributes:
      title: what it keeps.
      folder: created on first use.
      variable: the environment variable that moves it, or the flag.
      unwritable: how bad it is if it cannot be written.
    """

    title: str
    folder: Path
    variable: str
    unwritable: Severity


def caches() -> list[Cache]:
    """The folders that this process would use."""
    from huggingface_hub import constants

    data = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    return [
        Cache("models from the hub", Path(constants.HF_HUB_CACHE), "HF_HOME", "broken"),
        Cache("compiled programs", default_cache(), "JAX_COMPILATION_CACHE_DIR", "warning"),
        # Often on a shared disk that only an administrator writes.
        Cache("prepared data sets", data, "TFDS_DATA_DIR", "warning"),
    ]


def look(folders: Sequence[Cache] | None = None) -> Iterator[Finding]:
    """Each folder with its size, and whether it can be written."""
    for cache in caches() if folders is None else folders:
        where = f"{cache.title}: {cache.folder}"
        parent = existing_parent(cache.folder)
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            remedy = f"set {cache.variable} to a folder that you can write"
            yield Finding(f"{where} cannot be written", cache.unwritable, remedy)
        elif cache.folder.is_dir():
            nbytes, whole = size(cache.folder)
            yield Finding(f"{where}, {'' if whole else 'over '}{nbytes / 1e9:.2f} GB")
        else:
            yield Finding(f"{where}, not created yet")


def size(folder: Path, seconds: float = SECONDS) -> tuple[int, bool]:
    """Bytes of the files in a folder, links not followed, and whether all files were counted."""
    end, nbytes, left = time.monotonic() + seconds, 0, [str(folder)]
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    else:
                        nbytes += entry.stat(follow_symlinks=False).st_size
        except OSError:  # removed meanwhile, or another user's
            continue
        if time.monotonic() > end:
            return nbytes, not left
    return nbytes, True


CHECKS.register("caches", Check("Caches", look))
