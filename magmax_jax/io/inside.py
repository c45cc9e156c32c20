"""Files that a file names: only ever in its own directory."""

import re
from pathlib import Path, PurePosixPath

from magmax_jax.errors import UserError

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
    if not name or "\0" in name or leads_out or re.match(r"[A-Za-z]:", name):
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
