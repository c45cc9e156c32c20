"""Identifies this process, and checks whether another one is still alive.

A process is identified by the kernel's boot id, its PID namespace, its PID there and its start
time: PIDs are reused, and containers on one machine each count from 1. If either of the first two
differs, or the system has no /proc, it cannot be determined whether a process is alive.
"""

import os
import socket
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process on any machine.

    Attributes:
      host: the name of its machine or container, for display.
      kernel: the kernel's boot id and the PID namespace; "" without /proc.
      pid: its number in that namespace.
      started: its start, in clock ticks since boot; 0 without /proc.
    """

    host: str
    kernel: str
    pid: int
    started: int


def this_process() -> Process:
    """The calling process."""
    host, pid = socket.gethostname(), os.getpid()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        kernel = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return Process(host, "", pid, 0)
    found = _status(pid)
    return Process(host, kernel if found else "", pid, found[1] if found else 0)


def lives(process: Process) -> bool | None:
    """Whether a process is still running; None if this cannot be determined from here."""
    here = this_process()
    if not here.kernel or process.kernel != here.kernel:
        return None
    found = _status(process.pid)
    if found is None:  # gone, or another user's and hidden by /proc
        return _is_hidden(process.pid)
    state, started = found
    return started == process.started and state not in "ZX"


def _status(pid: int) -> tuple[str, int] | None:
    """A process's state (Z for a zombie) and its start time."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the preceding program name may contain anything
    return fields[0], int(fields[19])


def _is_hidden(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return False  # it started just now, so it is another process with that PID
