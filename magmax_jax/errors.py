"""The ways in which a command ends early without a stack trace."""

import errno
import sys
from collections.abc import Callable

_REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}


class UserError(ValueError):
    """A mistake its reader can mend: one sentence that says what, where and what to do."""


class DivergedError(RuntimeError):
    """Training left the finite numbers: the sentence says at which task and step."""


def exit_code(command: Callable[[], None]) -> int:
    """Runs a command; returns 0 if it ends well, else prints one sentence and returns its code.

    2 for a mistake of the user's or a disk that refuses, 1 for a run that diverged, 130 for an
    interruption (Ctrl-C). Other exceptions are bugs and keep their stack trace.
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
    except KeyboardInterrupt:
        print("interrupted: the same command starts it again", file=sys.stderr)
        return 130
    return 0
