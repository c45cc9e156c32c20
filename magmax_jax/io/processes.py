"""Which process this is, and whether another one still lives.

A process is known by the kernel's boot, its PID namespace, its number there and its start time:
numbers are used again, and containers on one machine each count from 1. Where any of the first two
differ, or the system has no /proc, nobody here can say whether a process lives.
"""

import os
import socket
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process, anywhere.

    Attributes:
      host: the name of its machine or container, for people.
      kernel: the boot of the kernel and the PID namespace in it; "" where there is no /proc.
      pid: its number in that namespace.
      started: its start, in clock ticks since the boot; 0 where there is no /proc.
    """

    host: str
    kernel: str
    pid: int
    started: int


def this_process() -> Process:
    """The process that calls."""
    host, pid = socket.gethostname(), os.getpid()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        kernel = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return Process(host, "", pid, 0)
    found = _status(pid)
    return Process(host, kernel if found else "", pid, found[1] if found else 0)


def lives(process: Process) -> bool | None:
    """Whether a process still runs; None where that cannot be seen from here."""
    here = this_process()
    if not here.kernel or process.kernel != here.kernel:
        return None
    found = _status(process.pid)
    if found is None:  # gone, or another user's where /proc hides those
        return _is_hidden(process.pid)
    state, started = found
    return started == process.started and state not in "ZX"


def _status(pid: int) -> tuple[str, int] | None:
    """A process's state, Z for one that ended and waits for its parent, and its start time."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the program's name before may hold anything
    return fields[0], int(fields[19])


def _is_hidden(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return False  # it began just now, so it is another process of that number
