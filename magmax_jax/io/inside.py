"""Files named by another file: allowed only in its own directory."""

import os
import re
from pathlib import Path, PurePosixPath

from magmax_jax.errors import UserError

LONGEST, LONGEST_PATH = 255, 4096
"""Longest file name, and path including its terminator, in bytes."""
BLOBS = "blobs"
"""Where the hub's cache keeps the targets of its snapshots' links."""


def inside(index: Path, name: str) -> Path:
    """The path that `index` names, relative to its own directory; it need not exist.

    A downloaded index is untrusted: if it names `/home/me/secret.safetensors` or
    `../other/x.safetensors`, or reaches it by a link, that file would be read, hashed and merged.

    Raises:
      UserError: the path is invalid, or leads out of the directory. Links into the `blobs` of the
        hub's own cache are allowed.
    """
    directory = index.parent
    leads_out = PurePosixPath(name).is_absolute() or ".." in re.split(r"[/\\]", name)
    if not _is_path(name) or leads_out or re.match(r"[A-Za-z]:", name):
        raise UserError(
            f"{index} names {name!r}, which is not a file in its directory: fetch it again from a "
            "publisher that you trust"
        )
    path = directory / name
    if not stays_in(directory, path):
        raise UserError(
            f"{index} names {name}, which is a link out of its directory, to {_end_of(path)}: copy "
            "the file there, or name the directory that it is in"
        )
    return path


def _is_path(name: str) -> bool:
    """Whether a file of that name can exist."""
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError:  # lone surrogate
        return False
    short = all(len(part) <= LONGEST for part in encoded.split(b"/"))
    return bool(name) and "\0" not in name and short and len(encoded) < LONGEST_PATH


def stays_in(directory: Path, path: Path) -> bool:
    """Whether a path in a directory, after following all links, is still in it or in the hub's
    cache of the same repository."""
    home, target = _end_of(directory), _end_of(path)
    revisions = [each for each in home.parents if each.name == "snapshots"]
    allowed = (home, *(each.parent / BLOBS for each in revisions))
    return any(target.is_relative_to(each) for each in allowed)


def _end_of(path: Path) -> Path:
    """Where a path finally leads; the path itself if its links form a loop."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # which one Python raises depends on its version
        return path.absolute()
