"""What an archive unpacks to, before anything is unpacked.

TFDS checks the publishers' checksums. Archives without one, and those that `repacked` accepts, may
hold anything: names that lead elsewhere, or far more bytes than there is room for. TFDS reads each
member into memory as a whole, and skips names that lead out without a word.
"""

import bz2
import copy
import gzip
import os
import posixpath
import sys
import tarfile
import zipfile
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from magmax_jax.data import tfds_internals
from magmax_jax.data.prepare.archives import damaged
from magmax_jax.errors import UserError, first_line

CHUNK = 1 << 20
BLOCK = 4096
"""The smallest number of bytes that a file takes on disk."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Member(NamedTuple):
    """One file of an archive: its name, "" if it is the only one, and its bytes once unpacked."""

    name: str
    size: int


def unpacked_size(archive: Path, room: int | None = None) -> int:
    """Bytes of all members, which are read but not kept; of the file if it is not an archive.

    Args:
      room: bytes on disk for the unpacked members; None if they are not unpacked to disk.

    Raises:
      UserError: a member leads out of the archive's directory, the archive is damaged, it unpacks
        to more than `room`, or a member is larger than this machine's memory.
      OSError: it cannot be read.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    most = memory if room is None else min(memory, room)
    total = 0
    try:
        with closing(_members(archive, most)) as members:
            for name, size in members:
                if size > memory:
                    raise UserError(
                        f"{archive} holds {repr(name) if name else 'a file'} of over "
                        f"{memory / 1e9:.1f} GB, the memory of this machine: fetch the publishers' "
                        "archive, or prepare on a larger machine"
                    )
                total += -(-size // BLOCK) * BLOCK
                if room is not None and total > room:
                    raise UserError(
                        f"{archive} unpacks to more than the {room / 1e9:.1f} GB that are free: "
                        "make room, or pass another data_dir"
                    )
    except Exception as error:
        if not (damaged(error) or isinstance(error, RuntimeError)):  # a flipped bit is a password
            raise
        reason = first_line(error).rstrip(":")
        raise UserError(
            f"{archive} is damaged or not the publishers' ({reason}): remove it and fetch it again"
        ) from None
    return total


def _members(archive: Path, most: int) -> Generator[Member]:
    """Members in order; a compressed one that exceeds `most` bytes is not read further."""
    kinds: dict[Any, Callable[[Path, int], Generator[Member]]] = {
        tfds_internals.ExtractMethod.ZIP: _zip_members,
        tfds_internals.ExtractMethod.TAR: _tar_members,
        tfds_internals.ExtractMethod.TAR_GZ: _tar_members,
        tfds_internals.ExtractMethod.GZIP: partial(_only, gzip.open),
        tfds_internals.ExtractMethod.BZIP2: partial(_only, bz2.open),
    }
    kind = kinds.get(tfds_internals.extract_method(archive.name))
    if kind is None:
        yield Member("", archive.stat().st_size)
    else:
        yield from kind(archive, most)


def _only(open_file: Callable[[Path], Any], archive: Path, most: int) -> Generator[Member]:
    with open_file(archive) as file:
        yield Member("", _length(file, most))


def _zip_members(archive: Path, most: int) -> Generator[Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            _require_inside(archive, info.filename)
            if info.is_dir():
                continue
            if info.compress_type not in _METHODS:  # zipfile cannot read the others piecewise
                raise UserError(
                    f"{archive} holds {info.filename!r}, which is not compressed by deflate: pack "
                    "it again"
                )
            if info.file_size > most:
                yield Member(info.filename, info.file_size)
                continue
            # zipfile stops at the declared size, but not before the rest is in memory too.
            true = copy.copy(info)
            true.file_size = sys.maxsize
            with opened.open(true) as file:
                size = _length(file, info.file_size)
            if size != info.file_size:
                raise zipfile.BadZipFile(
                    f"{info.filename!r} has not the {info.file_size} bytes that it declares"
                )
            yield Member(info.filename, size)


def _tar_members(archive: Path, most: int) -> Generator[Member]:
    with tarfile.open(archive) as opened:
        while (info := opened.next()) is not None:
            vars(opened)["members"] = []  # otherwise it keeps all of them
            _require_inside(archive, info.name)
            if info.issym() or info.islnk():  # TFDS copies what it leads to, once for each link
                raise UserError(
                    f"{archive} holds {info.name!r}, a link to {info.linkname!r}: pack it again "
                    "with the files themselves (tar --dereference --hard-dereference)"
                )
            yield Member(info.name, info.size if info.isreg() else 0)


def _length(file: IO[bytes], most: int) -> int:
    """Number of bytes to the end; a larger number than `most` if there are more."""
    read = 0
    while read <= most and (piece := file.read(CHUNK)):
        read += len(piece)
    return read


def _require_inside(archive: Path, name: str) -> None:
    if posixpath.isabs(name) or posixpath.normpath(name).split("/")[0] == "..":
        raise UserError(
            f"{archive} holds {name!r}, which leads out of the directory that it is unpacked to: "
            "it is not the publishers'; fetch theirs"
        )
