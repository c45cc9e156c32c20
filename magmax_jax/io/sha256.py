"""sha256 of files."""

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from magmax_jax.errors import UserError

if TYPE_CHECKING:
    from _hashlib import HASH

_PIECE = 1 << 22
"""Bytes read at once: enough that a thread rarely needs the GIL."""


def feed(total: "HASH", path: Path) -> None:
    """Updates a hash with a file's bytes.

    Raises:
      UserError: the file cannot be read.
    """
    buffer = memoryview(bytearray(_PIECE))
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                total.update(buffer[:count])
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None


def sha256_of(path: Path) -> str:
    """A file's sha256 in hexadecimal, computed once per process while the file is unchanged:
    several models of one run, or runs of one model, are checked together.

    Raises:
      UserError: the file cannot be read.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    return _sha256(path.absolute(), stat.st_size, stat.st_mtime_ns, stat.st_ino)


@cache
def _sha256(path: Path, *stamp: int) -> str:
    total = hashlib.sha256()
    feed(total, path)
    return total.hexdigest()
