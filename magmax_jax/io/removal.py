"""Removes directories with all that is in them."""

import os
import shutil
from pathlib import Path

ATTEMPTS = 3


def remove_tree(path: Path) -> None:
    """Removes a directory and everything in it, as far as the disk allows; nothing if it is gone.

    Python repeats most calls that a signal interrupts (PEP 475), but not removals, which some
    network disks let signals interrupt: what is left is tried again.
    """
    for _ in range(ATTEMPTS):
        shutil.rmtree(path, ignore_errors=True)
        if not os.path.lexists(path):
            return
