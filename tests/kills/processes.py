"""Processes that are started from one that has imported everything already."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from magmax_jax.cli.main import main
from magmax_jax.cli.streams import run_quietly


class Process(NamedTuple):
    """A command in a child of this process, which must not have used JAX itself."""

    pid: int
    log: Path

    def kill(self) -> None:
        """Ends it as a lost machine would: no handler runs."""
        os.kill(self.pid, signal.SIGKILL)

    def code(self, wait: float) -> int | None:
        """Its exit status, negative for a signal; None if it still runs after `wait` seconds."""
        end = time.monotonic() + wait
        while True:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                return None
            time.sleep(0.01)

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")


def import_everything() -> None:
    """Imports what runs and merges import; children then start at once."""
    import magmax_jax.api
    import magmax_jax.merge_files.execute
    import magmax_jax.runs.export
    import magmax_jax.runs.sweep
    import magmax_jax.runs.train  # noqa: F401


def start(argv: Sequence[str], log: Path) -> Process:
    """Starts `magmax ARGV`; what it prints is appended to `log`."""
    return call(lambda: run_quietly(lambda: main(list(argv))), log)


def call(function: Callable[[], int], log: Path) -> Process:
    """Starts a function, which returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    child = os.fork()
    if child:
        return Process(child, log)
    code = 70
    try:
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for stream in (1, 2):
            os.dup2(said, stream)
        try:
            code = function()
            if jax.distributed.is_initialized():
                jax.distributed.shutdown()  # as at the exit of an interpreter, which this skips
        except BaseException as error:  # as an interpreter ends
            sys.excepthook(type(error), error, error.__traceback__)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(code)
