"""Whether results and temporary files can be written, and how much room there is."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from magmax_jax.doctor.check import Check, Finding
from magmax_jax.registry import CHECKS

LEAST = 5 * 10**9
"""Bytes below which the checkpoints of a run with CLIP ViT-B/16 may not fit."""


def look(folders: Mapping[str, tuple[Path, str]] | None = None) -> Iterator[Finding]:
    """The working directory and the place of temporary files, by what each is for.

    Args:
      folders: title -> folder and what to do if it cannot be used.
    """
    if folders is None:
        folders = {
            "results": (Path.cwd(), "work in another directory, or choose another --out"),
            "temporary files": (Path(tempfile.gettempdir()), "set TMPDIR to another folder"),
        }
    for title, (folder, remedy) in folders.items():
        where = f"{title}: {folder}"
        if reason := _refused(folder):
            yield Finding(f"{where} cannot be written ({reason})", "broken", remedy)
            continue
        free = shutil.disk_usage(folder).free
        text = f"{where}, {free / 1e9:,.0f} GB free"
        if free < LEAST:
            yield Finding(text, "warning", f"make room, or {remedy}")
        else:
            yield Finding(text)


def _refused(folder: Path) -> str:
    """Why no file can be written there, "" if one can; full and read-only disks refuse, too."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


CHECKS.register("disk", Check("Disk", look))
