"""JSON lines: one JSON object per line; an interruption may have cut off the last line."""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, BinaryIO

from magmax_jax.io.atomic import write_text

Record = dict[str, Any]
NUMBER = (int, float)
NUMBER_OR_NONE = (int, float, NoneType)


def has_fields(record: Record, fields: Mapping[str, tuple[type, ...]]) -> bool:
    """Whether a record has these fields with the given types, and all numbers are finite.

    Integers must fit into 64 bits: arrays have no larger ones.
    """
    return all(
        type(value := record.get(name, ...)) in types
        and (type(value) is not float or math.isfinite(value))
        and (type(value) is not int or -(2**63) <= value < 2**63)
        for name, types in fields.items()
    )


def to_text(records: Iterable[Record]) -> str:
    """The records as lines, each ending in a line break."""
    return "".join(json.dumps(record) + "\n" for record in records)


def write(path: Path, records: Iterable[Record]) -> None:
    """Replaces a file's records, atomically."""
    write_text(path, to_text(records))


def append(path: Path, records: Iterable[Record]) -> None:
    """Appends records in a single write, and returns once they are on disk."""
    with path.open("a", encoding="utf-8") as file:
        file.write(to_text(records))
        file.flush()
        os.fsync(file.fileno())


def _any(record: Record) -> bool:
    return True


def read(path: Path, sound: Callable[[Record], bool] = _any) -> list[Record]:
    """The records up to the first incomplete or not `sound` line; none if there is no file."""
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [record for _, record in _whole_lines(text, sound)]


class Follower:
    """Reads a file to which another process, perhaps on another machine, appends records.

    Each look reopens the file, because that makes a network file system ask its server for changes,
    and reads the complete lines added since the last look.

    Args:
      path: of the file.
      sound: whether a record is valid for the file; reading stops at the first that is not.
    """

    def __init__(self, path: Path, sound: Callable[[Record], bool] = _any):
        self.path = path
        self._sound = sound
        self._identity: tuple[int, int] | None = None
        self._at = 0  # where the last line read ends,
        self._last = b""  # and that line

    def look(self) -> tuple[bool, list[Record]]:
        """Whether all earlier records are void, and the records since then.

        They are void if the file was replaced, truncated or removed, as when a run resumes from a
        checkpoint.
        """
        try:
            with self.path.open("rb") as file:
                void = self._is_another(file)
                if void:
                    self._forget()
                    self._identity = _identity(file)
                file.seek(self._at)
                records = []
                for line, record in _whole_lines(file.read(), self._sound):
                    self._at, self._last = self._at + len(line), line
                    records.append(record)
                return void, records
        except FileNotFoundError:
            void = self._at > 0
            self._forget()
            return void, []
        except OSError:  # a network file system's handle may be stale for a moment
            return False, []

    def _forget(self) -> None:
        self._identity, self._at, self._last = None, 0, b""

    def _is_another(self, file: BinaryIO) -> bool:
        if _identity(file) != self._identity or os.fstat(file.fileno()).st_size < self._at:
            return True
        # A new file may reuse a deleted one's inode number, and have any length.
        file.seek(self._at - len(self._last))
        return file.read(len(self._last)) != self._last


def _whole_lines(text: bytes, sound: Callable[[Record], bool]) -> Iterator[tuple[bytes, Record]]:
    """Lines with their records, up to the first that is incomplete or invalid."""
    for line in text.splitlines(keepends=True):
        try:
            record = json.loads(line.decode()) if line.endswith(b"\n") else None
        except (ValueError, RecursionError):
            return
        if not isinstance(record, dict) or not sound(record):
            return
        yield line, record


def _identity(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino
