"""What Orbax logs on its own account, mostly from background threads, kept off the terminal."""

import logging
from typing import NamedTuple, Self

LOGGER = "absl"
"""The logger that Orbax writes to."""
_INTENDED = "was found in the checkpoint, but could not be restored"
"""Part of Orbax's warning about restoring only part of a checkpoint."""


class Logged(NamedTuple):
    """A message of Orbax's, and the exception that it is about."""

    text: str
    error: BaseException


class OrbaxLog(logging.Filter):
    """Drops Orbax's stack traces and collects their exceptions. A context manager.

    Orbax logs the exceptions of its threads, raises some of them again later, and forgets others.
    Whoever reports them needs no stack trace in between.
    """

    def __init__(self) -> None:
        super().__init__()
        self._logged: list[Logged] = []

    def __enter__(self) -> Self:
        logging.getLogger(LOGGER).addFilter(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(LOGGER).removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        if "orbax" not in record.pathname:
            return True
        if record.exc_info and record.exc_info[1]:
            self._logged.append(Logged(record.getMessage(), record.exc_info[1]))
            return False
        return _INTENDED not in record.getMessage()

    def taken(self) -> list[Logged]:
        """What was logged since the last call, once for each exception."""
        logged, self._logged = self._logged, []
        return list({id(each.error): each for each in reversed(logged)}.values())[::-1]
