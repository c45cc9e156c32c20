"""Watches a process and its descendants from outside: memory, new files, limits."""

import contextlib
import os
import resource
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PERIOD = 0.01
"""Polling interval in seconds; shorter memory peaks may be missed."""


@dataclass
class Watched:
    """Measurements of a process from start to exit.

    Attributes:
      exceeded: the limit for which it was killed, e.g. "> 20 GB"; None if it exited by itself.
      seconds: wall time.
      core_seconds: CPU time of the process and of the children that it waited for.
      private: peak of the sum over its processes, bytes: anonymous memory, which is theirs alone.
      resident: the same plus pages of mapped files, which the system may drop.
      reached: seconds until each file was non-empty; files that never were are missing.
    """

    exceeded: str | None = None
    seconds: float = 0.0
    core_seconds: float = 0.0
    private: int = 0
    resident: int = 0
    reached: dict[str, float] = field(default_factory=dict)


def watch(
    process: subprocess.Popen, memory: float, seconds: float, files: Mapping[str, Path]
) -> Watched:
    """Watches until the process exits or exceeds a limit; leaves none of its processes behind.

    Args:
      process: just started, as the leader of its own session.
      memory: limit in bytes on the private memory of its processes together.
      seconds: time limit.
      files: by the name under which they are reported.
    """
    seen, start, used = Watched(), time.perf_counter(), _children()
    parent = psutil.Process(process.pid)
    # The descriptor becomes readable when the process exits, so polling adds nothing to its time.
    descriptor = os.pidfd_open(process.pid)
    try:
        while not seen.exceeded and not select.select([descriptor], [], [], PERIOD)[0]:
            private, resident = _memory(parent)
            seen.private, seen.resident = max(seen.private, private), max(seen.resident, resident)
            passed = time.perf_counter() - start
            for name, file in files.items():
                if name not in seen.reached and file.exists() and file.stat().st_size:
                    seen.reached[name] = passed
            if private > memory:
                seen.exceeded = f"> {memory / 1e9:.3g} GB"
            elif passed > seconds:
                seen.exceeded = f"> {seconds:.3g} s"
        seen.seconds = time.perf_counter() - start
    finally:
        os.close(descriptor)
        kill(process)
        seen.core_seconds = _children() - used
    return seen


def kill(process: subprocess.Popen) -> None:
    """Kills a process and its descendants, if any are still running."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _children() -> float:
    """CPU seconds of all children waited for so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _memory(parent: psutil.Process) -> tuple[int, int]:
    """Private and resident bytes of a process and its descendants."""
    private = resident = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                found = process.memory_info()
                private, resident = private + found.rss - found.shared, resident + found.rss
    return private, resident
