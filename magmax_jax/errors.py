"""The ways in which a command ends early without a stack trace."""

import errno
import sys
from collections.abc import Callable

_REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}


class UserError(ValueError):
    """A mistake its reader can mend: one sentence that says what, where and what to do.

    Attributes:
      command: words of a `magmax` command that mends it, () if there is none; `str` is the sentence
        alone.
    """

    def __init__(self, message: str = "", command: tuple[str, ...] = ()):
        super().__init__(message)
        self.command = command


class DivergedError(RuntimeError):
    """Training left the finite numbers: the sentence says at which task and step."""


class Interrupted(Exception):
    """The process was asked to stop and did so in order.

    Attributes:
      signal: the number of the signal that asked.
      resume: how to go on, one sentence.
    """

    def __init__(self, signal: int, resume: str = "the same command goes on from here"):
        super().__init__(resume)
        self.signal = signal
        self.resume = resume


def exit_code(command: Callable[[], None]) -> int:
    """Runs a command; returns 0 if it ends well, else prints one sentence and returns its code.

    2 for a mistake of the user's or a disk that refuses, 1 for a run that diverged, 128 and the
    signal's number for an interruption (130 for Ctrl-C, 143 for SIGTERM). Other exceptions are bugs
    and keep their stack trace.
    """
    try:
        command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except DivergedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        print(f"error: {error.filename or 'the disk'}: {error.strerror}", file=sys.stderr)
        return 2
    except Interrupted as interruption:
        print(interruption.resume, file=sys.stderr)
        return 128 + interruption.signal
    except KeyboardInterrupt:
        print("interrupted: the same command starts it again", file=sys.stderr)
        return 130
    return 0
