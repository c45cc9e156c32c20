"""A cell on this machine: its state on disk, and the process that runs it.

Each cell runs in its own process, so a crash or an out-of-memory kill cannot take down the others.
"""

import fcntl
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, NamedTuple

from magmax_jax.cli.grid.settings import Cell
from magmax_jax.config import SweepConfig
from magmax_jax.errors import Program, UserError
from magmax_jax.io.atomic import write_text
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.file_names import CONFIG

State = Literal["done", "running", "interrupted", "to do"]
SIGNALS = (signal.SIGINT, signal.SIGTERM)
Env = dict[str, str | None]
"""Environment variables to set; None unsets one."""
ELSEWHERE = -1000
"""Code of a cell that another grid is currently running."""


class Outcome(NamedTuple):
    """How a cell ended.

    Attributes:
      code: exit status; negative for the signal that ended it.
      error: the last line of its standard error, "" for none.
    """

    code: int
    error: str

    @property
    def failed(self) -> bool:
        return self.code not in (0, ELSEWHERE)

    @property
    def reason(self) -> str:
        """Why it failed, in a sentence."""
        if self.code == -signal.SIGKILL:
            return "killed by SIGKILL, which usually means that memory ran out"
        if self.code < 0:
            return f"ended by {signal.Signals(-self.code).name}"
        return self.error.removeprefix("error: ") or f"exit status {self.code}"


def state(cell: Cell, out: Path) -> State:
    """What the cell's directory says."""
    from magmax_jax.runs.merge_specs import num_models

    run = RunDirectory(cell.directory(out))
    if run.is_complete(cell.config, num_models(cell.config)) and _is_swept(cell, run):
        return "done"
    if _is_locked(lock_of(cell, out)):
        return "running"
    return "interrupted" if (run.path / CONFIG).exists() else "to do"


def command(program: Program, cell: Cell, out: Path, *flags: str) -> list[str]:
    """The command that runs the cell; repeatable once `prepare` has written the configuration."""
    directory = cell.directory(out)
    flags = (*_sweep_flags(cell.sweep), *flags)
    return program.argv("run", "--config", f"{directory}.json", "--out", str(directory), *flags)


def _sweep_flags(sweep: SweepConfig) -> list[str]:
    if not sweep.rules:
        return []
    at_once = [] if sweep.at_once is None else ["--sweep.at-once", str(sweep.at_once)]
    how = ["--sweep.scales", sweep.scales, "--sweep.test", sweep.test, *at_once]
    return ["--sweep.rules", *sweep.rules, *how]


def prepare(cell: Cell, out: Path) -> None:
    """Writes the cell's configuration beside the directory of its run.

    Raises:
      UserError: the disk refuses it.
    """
    path = cell.directory(out).with_suffix(".json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, cell.config.to_json())
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}): choose another --out"
        ) from None


def lock_of(cell: Cell, out: Path) -> Path:
    """Lock held while the cell's process lives, even if the grid that started it has died."""
    return cell.directory(out).with_suffix(".lock")


class Process:
    """A running command, in its own process group: a terminal's Ctrl-C does not reach it.

    The caller forwards signals, so the process receives each one once.
    """

    def __init__(self, command: Sequence[str], held: IO | None = None, env: Env | None = None):
        changed = os.environ | (env or {})
        self._popen = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,
            env={name: value for name, value in changed.items() if value is not None},
            pass_fds=[held.fileno()] if held else [],
        )
        self._last: deque[str] = deque(maxlen=1)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, number: int) -> None:
        """Forwards a signal."""
        self._popen.send_signal(number)

    def wait(self) -> Outcome:
        """Waits until it exits; a signal handler may run meanwhile and call `send`."""
        while self._popen.poll() is None:
            time.sleep(0.05)
        # A grandchild may keep the pipe open; the process's own output has been read by then.
        self._reader.join(timeout=5)
        return Outcome(self._popen.returncode, self._last[0] if self._last else "")

    def stop(self) -> None:
        """Asks it to save and exit, and waits; for a signal handler that interrupts `wait`."""
        self.send(signal.SIGTERM)
        os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOWAIT)

    def _read(self) -> None:
        lines = self._popen.stderr
        if lines is None:  # only if stderr is not a pipe; here it is one
            return
        with lines:
            for line in lines:
                sys.stderr.write(line)
                sys.stderr.flush()
                if line.strip():
                    self._last.append(line.strip())


class Relay:
    """Forwards SIGINT and SIGTERM to the running process; use `relayed`."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.process: Process | None = None

    def run(self, command: Sequence[str], lock: Path | None, env: Env | None = None) -> Outcome:
        """Runs a command to completion; returns ELSEWHERE if the lock is already held."""
        with _locked(lock) as held:
            if lock is not None and held is None:
                return Outcome(ELSEWHERE, "another grid is running it")
            self.process = Process(command, held, env)
            if self.signal is not None:  # it arrived before the process existed
                self.process.send(self.signal)
            outcome = self.process.wait()
            self.process = None
            return outcome

    def note(self, number: int, frame: object) -> None:
        self.signal = number
        if self.process is not None:
            self.process.send(number)


@contextmanager
def relayed() -> Iterator[Relay]:
    """Within this context, signals go only to the process that `Relay.run` is running."""
    relay = Relay()
    with handled(relay.note):
        yield relay


@contextmanager
def handled(note: Callable[[int, object], None]) -> Iterator[None]:
    """Within this context, `note` handles SIGINT and SIGTERM, unless the signal is ignored.

    A shell's background job ignores Ctrl-C, which is meant for the foreground job. So do our local
    jobs, because the grid that started them forwards it.
    """
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in handlers.items() if handler != signal.SIG_IGN}
    for number in before:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def shown(command: Sequence[str]) -> str:
    """The command quoted for a shell."""
    return shlex.join(["python", *command[1:]])


@contextmanager
def _locked(path: Path | None) -> Iterator[IO | None]:
    """The open file, locked by this process and those that inherit it; None if it is taken."""
    if path is None:
        yield None
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
        else:
            yield file


def _is_swept(cell: Cell, run: RunDirectory) -> bool:
    """Whether every rule of the cell's sweep has been evaluated at every scale."""
    if not cell.sweep.rules:
        return True
    from magmax_jax.runs.sweep import scales_of

    split = "test" if cell.sweep.test == "all" else "validation"
    found = {(row.model, row.scale) for row in run.swept() if row.split == split}
    wanted = scales_of(cell.sweep).items()
    return {(rule, scale) for rule, scales in wanted for scale in scales} <= found


def _is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
