"""Mutants in a child process, so that one that kills or blocks it is a fault like any other."""

import faulthandler
import multiprocessing
import tempfile
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from tests.mutants.kinds import KINDS
from tests.mutants.trial import Outcome, tried

PATIENCE = 300
"""Seconds after which a process that reads one mutant is killed."""
STARTING = 600
"""The same for a process that makes the valid files of a kind."""


def outcomes(name: str, start: int, end: int) -> Iterator[tuple[int, Outcome]]:
    """Every seed with the outcome of its mutant; a fresh process follows one that was ended.

    Args:
      name: of the kind.
      start, end: range of the seeds.
    """
    while start < end:
        for outcome in _until_ended(name, start, end):
            yield start, outcome
            start += 1


def _until_ended(name: str, start: int, end: int) -> Iterator[Outcome]:
    """Outcomes of the seeds up to the first that ends the process."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    # A fork has imported everything already; this process must not have started JAX.
    child = multiprocessing.get_context("fork").Process(
        target=_child, args=(name, start, end, sender)
    )
    child.start()
    sender.close()
    ready = False
    try:
        if not receiver.poll(STARTING):
            raise TimeoutError(f"{name}: its valid files are not read within {STARTING} s")
        ready = receiver.recv()
        for _ in range(start, end):
            if not receiver.poll(PATIENCE):
                yield Outcome("slow", f"killed after {PATIENCE} s")
                break
            yield receiver.recv()
    except EOFError:
        child.join()
        if not ready:
            raise RuntimeError(f"{name}: its valid files cannot be made or read") from None
        yield Outcome("crash", f"exit code {child.exitcode}")
    finally:
        child.kill()
        child.join()


def _child(name: str, start: int, end: int, sender: Connection) -> None:
    faulthandler.enable()
    warnings.simplefilter("ignore")
    kind = KINDS[name]
    with tempfile.TemporaryDirectory() as folder:
        kind.make(Path(folder))
        kind.read(Path(folder))  # imports what it needs
        sender.send(True)
        for seed in range(start, end):
            sender.send(tried(kind, Path(folder), seed))
