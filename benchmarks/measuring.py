"""One child process from start to end: seconds, peak memory, and an end to those that take more.

Reads /proc: Linux only.
"""

import itertools
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PERIOD = 0.02
"""Seconds between two looks at the memory: a peak that is shorter may be missed."""
LOOKS = 10
"""Looks at the memory between two at which processes there are, which takes longer."""


@dataclass(frozen=True)
class Limits:
    memory: float
    """Bytes of private memory (RssAnon) of the process and its descendants."""
    seconds: float

    def exceeded(self, memory: int, seconds: float) -> str | None:
        """The limit that is exceeded, as it is told, or None."""
        if memory > self.memory:
            return f"> {self.memory / 1e9:.3g} GB"
        return f"> {self.seconds:.3g} s" if seconds > self.seconds else None


@dataclass(frozen=True)
class Run:
    """What came of one process."""

    outcome: str
    """"ok", "> 20 GB", "> 900 s", or "failed: " and the last line that it wrote to stderr."""
    seconds: float
    """Wall time from its start until it was gone."""
    anonymous: int
    """Largest sum of RssAnon over the process and its descendants, bytes: what is theirs alone."""
    resident: int
    """Sum of every process's VmHWM, bytes: pages of files that they have mapped included."""


def measure(
    command: Sequence[str], limits: Limits, log: Path, cwd: Path, env: Mapping[str, str]
) -> Run:
    """Runs `command`; nothing of it is left when this returns.

    Args:
      log: file for what it prints.
    """
    with log.open("w") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            cwd=cwd, env=dict(env), start_new_session=True,
        )  # fmt: skip
        try:
            exceeded, anonymous, resident = _watch(process, start, limits)
            if exceeded:
                _end(process)
            process.wait()
            seconds = time.perf_counter() - start
        finally:
            _end(process)
    outcome = exceeded or "ok"
    if not exceeded and process.returncode:
        outcome = f"failed: {last_line(log.read_text(errors='replace')) or 'it said nothing'}"
    return Run(outcome, seconds, anonymous, resident)


def last_line(text: str) -> str:
    """The last line with anything in it, which is where a traceback names the error, or ""."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _watch(process: subprocess.Popen, start: float, limits: Limits) -> tuple[str | None, int, int]:
    """Looks until the process ends or exceeds a limit, which is named, and at its peaks."""
    anonymous, peaks = 0, {}
    # The descriptor becomes readable at the end of the process: no delay is in its seconds.
    descriptor = os.pidfd_open(process.pid)
    try:
        for look in itertools.count():
            if look % LOOKS == 0:
                family = _family(process.pid)
            memory = {pid: _memory(pid) for pid in family}
            now = sum(private for private, _ in memory.values())
            anonymous = max(anonymous, now)
            for pid, (_, peak) in memory.items():
                peaks[pid] = max(peak, peaks.get(pid, 0))
            exceeded = limits.exceeded(now, time.perf_counter() - start)
            if exceeded or select.select([descriptor], [], [], PERIOD)[0]:
                return exceeded, anonymous, sum(peaks.values())
    finally:
        os.close(descriptor)


def _family(session: int) -> list[int]:
    """Every process of a session, which the first of them has begun."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            # "PID (NAME) STATE PARENT GROUP SESSION ...", where a name may hold anything.
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # no process, or one that has ended since
            continue
        if entry.isdigit() and int(fields[3]) == session:
            found.append(int(entry))
    return found


def _memory(pid: int) -> tuple[int, int]:
    """RssAnon and VmHWM in bytes; zeros for a process that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0, 0
    found = dict(line.split(":", 1) for line in status.splitlines())
    return tuple(1024 * int(found.get(key, "0").split()[0]) for key in ("RssAnon", "VmHWM"))


def _end(process: subprocess.Popen) -> None:
    """Kills the process and what it started, if anything of them is left."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
