"""Paths as given by users of the library."""

import os
from pathlib import Path

from magmax_jax.errors import UserError

NAME_BYTES, PATH_BYTES = 255, 4095
"""Longest file name and path on Linux and macOS disks, in bytes of UTF-8."""


def user_path(path: Path | str, what: str = "path") -> Path:
    """A path with `~` or `~user` expanded to the home directory.

    Args:
      what: name of the argument in messages.

    Raises:
      UserError: it is empty, a name is too long for any disk, or there is no such user.
    """
    text = os.fspath(path)
    if not text:
        raise UserError(f"{what} is empty: name a directory, or '.' for the current one")
    if (length := max(map(_bytes, Path(text).parts), default=0)) > NAME_BYTES:
        raise UserError(
            f"{what} is {text[:40]}...: it contains a name of {length:,} bytes, and file systems "
            f"allow {NAME_BYTES}: choose a shorter one"
        )
    if _bytes(text) > PATH_BYTES:
        raise UserError(
            f"{what} is {text[:40]}...: it has {_bytes(text):,} bytes, and systems allow "
            f"{PATH_BYTES:,}: choose a shorter path"
        )
    try:
        return Path(text).expanduser()
    except RuntimeError:
        user = Path(text).parts[0]
        raise UserError(
            f"{what} is {text}: {user} has no home directory here; write ./{text} for a directory "
            "of that name"
        ) from None


def _bytes(text: str) -> int:
    return len(os.fsencode(text))
