"""Removes files and directories, as far as the disk allows."""

import contextlib
import os
import shutil
from pathlib import Path

ATTEMPTS = 3


def remove(path: Path) -> None:
    """Removes a file, a link, or a directory with everything in it; nothing if it is gone.

    Raises nothing. Python repeats most calls that a signal interrupts (PEP 475), but not removals,
    which some network disks let signals interrupt: what is left is tried again.
    """
    for _ in range(ATTEMPTS):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
        if not os.path.lexists(path):
            return
