"""What the processes of one run do when one of them is lost, or fails.

JAX (0.10) waits at exit until all processes have come, at most `shutdown_timeout_seconds`, and then
aborts: after an error that wait is in vain, so here an error ends the process at once. A process
that waits for a lost one in a collective raises no Python exception on a GPU: JAX's own threads
notice that no heartbeat comes and abort the process, with their own words. They cannot call Python
instead: a `missed_heartbeat_callback` ends in std::bad_cast.
"""

import os
import re
import sys
from types import TracebackType

HEARTBEAT = 30
"""Seconds without a heartbeat after which JAX ends the other processes; by default it takes 100."""
_LOST = re.compile(
    r"Gloo \w+ failed|ncclRemoteError|(closed|reset) by peer|stopped sending heartbeats|"
    r"heartbeat timeout|Barrier failed"  # of the coordination service, on which Orbax waits, too
)


def end_at_once_on_errors() -> None:
    """From now on, an exception that nobody handles ends this process without JAX's wait."""
    sys.excepthook = _end


def _end(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if isinstance(error, Exception) and (found := lost_process(error)):
        print(f"error: {found}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # its reader is gone, or it is closed
            continue
    os._exit(1)


def lost_process(error: Exception) -> str:
    """A sentence if a collective failed because another process is gone; "" for other errors.

    >>> print(lost_process(ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer")))
    another process of this run ended or cannot be reached (Gloo AllGather failed): see what it \
printed, then start all of them again with the same commands
    """
    found = _LOST.search(str(error))
    if found is None:
        return ""
    return (
        f"another process of this run ended or cannot be reached ({found[0]}): see what it "
        "printed, then start all of them again with the same commands"
    )
