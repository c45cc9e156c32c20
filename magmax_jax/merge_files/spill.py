"""Arrays put aside on a disk and taken up again in the same order."""

import os
import tempfile
from collections import deque
from pathlib import Path

import numpy as np


class Spill:
    """A nameless file that is gone when it is closed, or when the process ends.

    Args:
      directory: on whose disk it is.

    Raises:
      OSError: the disk refuses it, here or in `put`.
    """

    def __init__(self, directory: Path):
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115
        self._kept: deque[tuple[np.dtype, tuple[int, ...]]] = deque()

    def __enter__(self) -> "Spill":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def put(self, array: np.ndarray) -> None:
        view = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        self._kept.append((array.dtype, array.shape))
        while view:
            view = view[os.write(self._file.fileno(), view) :]

    def rewind(self) -> None:
        """Ends the putting aside: `take` begins with the first."""
        self._file.seek(0)

    def take(self) -> np.ndarray:
        dtype, shape = self._kept.popleft()
        array = np.empty(shape, dtype)
        view = array.reshape(-1).view(np.uint8).data
        while view:
            view = view[self._file.readinto(view) :]
        return array
