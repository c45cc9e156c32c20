"""Files that a file names: only ever in its own directory."""

import os
import re
from pathlib import Path, PurePosixPath

from magmax_jax.errors import UserError

LONGEST, LONGEST_PATH = 255, 4096
"""Bytes of a file's name, and of a path with its end."""
BLOBS = "blobs"
"""Where the hub's cache keeps what the links in its snapshots lead to."""


def inside(index: Path, name: str) -> Path:
    """The path that `index` names, relative to its own directory; it need not be there.

    A downloaded index is not the user's word: one that names `/home/me/secret.safetensors` or
    `../other/x.safetensors`, or reaches it by a link, would have it read, hashed and merged.

    Raises:
      UserError: the path is none, or leads out of the directory. Links into the `blobs` of the
        hub's own cache do not.
    """
    directory = index.parent
    leads_out = PurePosixPath(name).is_absolute() or ".." in re.split(r"[/\\]", name)
    if not _is_path(name) or leads_out or re.match(r"[A-Za-z]:", name):
        raise UserError(
            f"{index} names {name!r}, which is no file of its directory: fetch it again, from a "
            "publisher whom you trust"
        )
    path = directory / name
    if not stays_in(directory, path):
        raise UserError(
            f"{index} names {name}, which is a link out of its directory, to {_end_of(path)}: copy "
            "the file there, or name the directory that it is in"
        )
    return path


def _is_path(name: str) -> bool:
    """Whether a disk can have a file of that name."""
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError:  # half of a pair of surrogates
        return False
    short = all(len(part) <= LONGEST for part in encoded.split(b"/"))
    return bool(name) and "\0" not in name and short and len(encoded) < LONGEST_PATH


def stays_in(directory: Path, path: Path) -> bool:
    """Whether a path in a directory is, all links followed, still in it or in the hub's cache of
    the same repository."""
    home, target = _end_of(directory), _end_of(path)
    revisions = [each for each in home.parents if each.name == "snapshots"]
    allowed = (home, *(each.parent / BLOBS for each in revisions))
    return any(target.is_relative_to(each) for each in allowed)


def _end_of(path: Path) -> Path:
    """Where a path leads in the end; itself where it leads in a circle."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # which one Python raises depends on its version
        return path.absolute()
