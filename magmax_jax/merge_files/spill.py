"""Arrays spilled to disk and read back in the same order."""

import os
import tempfile
from collections import deque
from pathlib import Path

import numpy as np


class Spill:
    """An unnamed file that is deleted when it is closed, or when the process ends.

    Args:
      directory: on the disk to use.

    Raises:
      OSError: a disk operation fails, here or in `put`.
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
        """Ends writing: `take` starts with the first array."""
        self._file.seek(0)

    def take(self) -> np.ndarray:
        dtype, shape = self._kept.popleft()
        array = np.empty(shape, dtype)
        view = array.reshape(-1).view(np.uint8).data
        while view:
            view = view[self._file.readinto(view) :]
        return array
