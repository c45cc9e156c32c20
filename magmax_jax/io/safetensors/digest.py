"""sha256 of weight files, from bytes that are being read for another purpose."""

import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from magmax_jax.errors import UserError

_PIECE = 1 << 20
"""Bytes read at once: enough that a thread rarely needs the GIL, and few enough to be still in the
CPU cache when hashed."""


class Digest:
    """sha256 of whole files, one after another; thread-safe.

    Bytes may be fed as they become available. They are used if they continue what was hashed; bytes
    that are not fed are read.

    Args:
      paths: of the files, in hashing order.

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
        """Takes a file's bytes from `offset` on, after reading any skipped before them.

        Args:
          path: of the file; bytes of files that are not hashed are ignored.
          data: uint8, one-dimensional.

        Raises:
          UserError: a file cannot be read, or has shrunk.
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
        """The sha256 in hexadecimal; raises like `feed`."""
        with self._lock:
            self._read(self._end)
            return self._total.hexdigest()

    def _read(self, end: int) -> None:
        """Hashes up to a position in the concatenation of all files."""
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
