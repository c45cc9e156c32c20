"""Keeps what Orbax itself prints, mostly from background threads, off the terminal."""

import logging
import sys
from typing import NamedTuple, Self

LOGGER = "absl"
"""The logger that Orbax writes to."""
_KNOWN = (
    "was found in the checkpoint, but could not be restored",  # only part of it was asked for
    "Metadata file does not exist",  # after a failed save, whose error is reported
)
"""Parts of warnings that are not logged."""


class Logged(NamedTuple):
    """A message of Orbax's, and the exception that it is about."""

    text: str
    error: BaseException


class OrbaxLog(logging.Filter):
    """Drops Orbax's stack traces and collects their exceptions. A context manager.

    Orbax logs the exceptions of its threads, raises some of them again later, and forgets others.
    Whoever reports them needs no stack trace in between.

    Attributes:
      failed: whether a save failed. Its native writes may end much later, when nothing waits for
        them any more; the error that this gives is ignored for the rest of the process.
    """

    def __init__(self) -> None:
        super().__init__()
        self._logged: list[Logged] = []
        self.failed = False

    def __enter__(self) -> Self:
        logging.getLogger(LOGGER).addFilter(self)
        self._before, sys.unraisablehook = sys.unraisablehook, self._unraisable
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(LOGGER).removeFilter(self)
        if not self.failed and sys.unraisablehook == self._unraisable:
            sys.unraisablehook = self._before

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        if "orbax" not in record.pathname:
            return True
        if record.exc_info and record.exc_info[1]:
            self._logged.append(Logged(record.getMessage(), record.exc_info[1]))
            return False
        return not any(known in record.getMessage() for known in _KNOWN)

    def _unraisable(self, found: "sys.UnraisableHookArgs") -> None:
        if str(found.exc_value) != "Event loop is closed":
            self._before(found)

    def taken(self) -> list[Logged]:
        """What was logged since the last call, once for each exception."""
        logged, self._logged = self._logged, []
        return list({id(each.error): each for each in reversed(logged)}.values())[::-1]
