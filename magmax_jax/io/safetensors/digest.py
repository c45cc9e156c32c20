"""sha256 of weight files from bytes that are read for another purpose."""

import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from magmax_jax.errors import UserError

_PIECE = 1 << 20
"""Bytes read at once: so many that a thread rarely asks for the interpreter's lock, and so few that
they are still in the processor's cache when they are hashed."""


class Digest:
    """sha256 of files one after another, each whole; safe to call from threads.

    Bytes may be given as they come by. They count where they continue what was hashed; what nobody
    gives is read.

    Args:
      paths: of the files, in the order in which they are hashed.

    Raises:
      UserError: one of them cannot be read.
    """

    def __init__(self, paths: Sequence[Path]):
        self._total, self._lock = hashlib.sha256(), threading.Lock()
        self._position, self._end = 0, 0
        self._places: dict[Path, range] = {}
        for path in paths:
            try:
                size = path.stat().st_size
            except OSError as error:
                raise UserError(f"{path} cannot be read ({error.strerror})") from None
            self._places[path] = range(self._end, self._end + size)
            self._end += size

    def feed(self, path: Path, offset: int, data: np.ndarray) -> None:
        """Takes a file's bytes from `offset` on, after reading those that were left out before.

        Args:
          path: another file's bytes are ignored.
          data: uint8, one-dimensional.

        Raises:
          UserError: a file cannot be read, or became shorter.
        """
        if path not in self._places:
            return
        start = self._places[path].start + offset
        with self._lock:
            self._read(start)
            if (new := data[self._position - start :]).size:
                self._total.update(new.data)
                self._position += new.size

    def result(self) -> str:
        """The sha256 in hexadecimal; raises as `feed` does."""
        with self._lock:
            self._read(self._end)
            return self._total.hexdigest()

    def _read(self, end: int) -> None:
        """Hashes up to a place in the sequence of all files."""
        buffer = memoryview(bytearray(_PIECE if self._position < end else 0))
        for path, place in self._places.items():
            if self._position in place and self._position < end:
                self._read_file(path, place.start, min(end, place.stop), buffer)

    def _read_file(self, path: Path, start: int, end: int, buffer: memoryview) -> None:
        try:
            with path.open("rb", buffering=0) as file:
                while left := end - self._position:
                    view = buffer[:left]
                    count = os.preadv(file.fileno(), [view], self._position - start)
                    if not count:
                        raise UserError(f"{path} ended while it was read: fetch it again")
                    self._total.update(view[:count])
                    self._position += count
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror})") from None
