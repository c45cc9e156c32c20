"""One directory, in which processes are killed until one start comes through undisturbed."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.kills.processes import Process, call, start
from tests.kills.subjects import Subject

PATIENCE = 3600.0
"""Seconds for a start that nobody disturbs: a start that takes longer hangs, however busy the
machine."""
PARTING = 2.0
"""Seconds that the other processes of a run are given before they are killed too, as a cluster's
scheduler does."""


class Kill(NamedTuple):
    """One kill: which processes, after how many seconds, and what is wrong with what came of it."""

    victims: tuple[int, ...]
    after: float
    wrong: str = ""


class Undisturbed(NamedTuple):
    """What a subject does if left alone: its digest, and the seconds that it takes."""

    made: Path
    digest: str
    seconds: float


def undisturbed(subject: Subject, scratch: Path) -> Undisturbed:
    """Makes a subject's inputs and lets it end, twice: the first one compiles.

    Raises:
      AssertionError: it fails, or differs from itself.
    """
    made = scratch / "made"
    made.mkdir()
    _in_child(lambda: subject.make(made), scratch / "made.log")
    digests = []
    for name in ("compiling", "alone"):
        folder = scratch / name
        folder.mkdir()
        began = time.monotonic()
        wrong = _finished(subject, made, folder)
        assert not wrong, wrong
        seconds = time.monotonic() - began
        digests.append(_digest(subject, folder))
    assert len(set(digests)) == 1 and digests[0], "two undisturbed ones differ"
    return Undisturbed(made, digests[0], seconds)


def trial(
    subject: Subject, alone: Undisturbed, scratch: Path, random: np.random.Generator
) -> Iterator[list[Kill]]:
    """Kills in one directory after another; yields the kills of each, the last with what is wrong.

    A directory ends with the first start that comes through before its kill, or after five kills.
    """
    turn = 0
    while True:
        folder = scratch / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        kills: list[Kill] = []
        while len(kills) < 5:
            victims = subject.victims[turn % len(subject.victims)]
            after = float(random.uniform(0.0, 1.05)) * alone.seconds
            processes = _started(subject, alone.made, folder)
            time.sleep(after)
            if (code := processes[0].code(0)) is not None:  # it ended before its kill
                wrong = _wrong(processes[1:])
                wrong = wrong or (f"exit code {code}: {processes[0].said[-600:]}" if code else "")
                break
            turn += 1
            kills.append(Kill(victims, after))
            _kill(processes, victims)
        else:
            wrong = _finished(subject, alone.made, folder)
        # A kill after all was written: a merge then refuses to write over its own output.
        if _digest(subject, folder) == alone.digest:
            wrong = ""
        elif not wrong:
            wrong = "another result"
        if kills:
            yield [*kills[:-1], kills[-1]._replace(wrong=wrong)]
        elif wrong:
            raise AssertionError(f"undisturbed: {wrong}")


def _kill(processes: list[Process], victims: tuple[int, ...]) -> None:
    for index in victims:
        processes[index].kill()
    for index in victims:
        processes[index].code(PATIENCE)
    for index, process in enumerate(processes):
        if index not in victims and process.code(PARTING) is None:
            process.kill()
            process.code(PATIENCE)


def _started(subject: Subject, made: Path, folder: Path) -> list[Process]:
    commands = subject.commands(made, folder)
    logs = [folder.parent / f"{folder.name}.{i}.log" for i in range(len(commands))]
    for log in logs:
        log.unlink(missing_ok=True)
    return [start(argv, log) for argv, log in zip(commands, logs, strict=True)]


def _finished(subject: Subject, made: Path, folder: Path) -> str:
    """Starts it and waits for its end; returns what went wrong, or ""."""
    return _wrong(_started(subject, made, folder))


def _wrong(processes: list[Process]) -> str:
    """Waits for processes; what went wrong, or ""."""
    codes = [process.code(PATIENCE) for process in processes]
    for process, code in zip(processes, codes, strict=True):
        if code is None:
            process.kill()
            process.code(PATIENCE)
    failed = [(code, each.said) for code, each in zip(codes, processes, strict=True) if code != 0]
    return f"exit code {failed[0][0]}: {failed[0][1][-600:]}" if failed else ""


def _digest(subject: Subject, folder: Path) -> str:
    """ "" if there is no whole result."""
    found = folder.parent / "digest"
    found.unlink(missing_ok=True)

    def write() -> int:
        found.write_text(subject.digest(folder))
        return 0

    code = call(write, folder.parent / "digest.log").code(PATIENCE)
    return found.read_text() if code == 0 else ""


def _in_child(function: Callable[[], object], log: Path) -> None:
    """Calls a function that may use JAX, which this process must not, as it forks."""

    def called() -> int:
        function()
        return 0

    child = call(called, log)
    code = child.code(PATIENCE)
    assert code == 0, child.said[-1000:]
