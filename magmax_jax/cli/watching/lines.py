"""Files of JSON records that another process, perhaps on another machine, adds to."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class JsonLines:
    """Records of a file to which another process adds lines.

    Every look opens the file anew, which is what makes a shared disk ask its server for news, and
    reads what was added since the last one, as far as it is whole.
    """

    def __init__(self, path: Path):
        self.path = path
        self._forget()

    def look(self) -> tuple[bool, list[dict[str, Any]]]:
        """Whether all that was read before is void, and the records since then.

        It is void where the file was replaced, cut or taken away, as at the start of a run that
        goes on from a checkpoint.
        """
        try:
            with self.path.open("rb") as file:
                void = self._is_another(file)
                if void:
                    self._forget()
                    self._identity = _identity(file)
                file.seek(self._at)
                return void, list(self._whole(file.read()))
        except FileNotFoundError:
            void = self._at > 0
            self._forget()
            return void, []
        except OSError:  # a shared disk's handle may be stale for a moment
            return False, []

    def _forget(self) -> None:
        self._identity: tuple[int, int] | None = None
        self._at, self._last = 0, b""  # where the last line that was read ends, and that line

    def _is_another(self, file: Any) -> bool:
        if _identity(file) != self._identity or os.fstat(file.fileno()).st_size < self._at:
            return True
        # A new file may have the number of one that is gone, and any length.
        file.seek(self._at - len(self._last))
        return file.read(len(self._last)) != self._last

    def _whole(self, text: bytes) -> Iterator[dict[str, Any]]:
        """Records up to the first line that is torn or has not arrived; the next look tries it."""
        for line in text.splitlines(keepends=True):
            try:
                record = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                return
            if not isinstance(record, dict):
                return
            self._at, self._last = self._at + len(line), line
            yield record


def _identity(file: Any) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino
