"""One command, one fault: what is left, and what the same command makes of it."""

import contextlib
import hashlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from magmax_jax.cli.main import main
from magmax_jax.cli.streams import run_quietly
from tests.faults.commands import Written
from tests.faults.shim import Shim

SECONDS = 120


class Ended(NamedTuple):
    """How a process ended.

    Attributes:
      code: its exit status; negative for the signal that ended it.
      said: its standard error.
      writes: counted.
    """

    code: int
    said: str
    writes: int


class Trial(NamedTuple):
    """What a fault did; `wrong` is "" where all is well."""

    fault: str
    at: int
    wrong: str


def ran(argv: Sequence[str], shim: Shim, scratch: Path) -> Ended:
    """Runs a command in a child of this process, which has imported everything already."""
    said, counted = scratch / "said", scratch / "counted"
    for path in (said, counted):
        path.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        code = 70
        try:
            for number, stream in ((1, os.devnull), (2, str(said))):
                os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
            note = os.open(counted, os.O_WRONLY | os.O_CREAT, 0o600)
            write = os.write
            shim.install()
            try:
                code = run_quietly(lambda: main(list(argv)))
            except SystemExit as ending:
                code = ending.code if isinstance(ending.code, int) else 1
            except BaseException:
                import traceback

                traceback.print_exc()
                code = 70
            with contextlib.suppress(OSError):
                sys.stderr.flush()
            write(note, str(shim.count).encode())
        finally:
            os._exit(code)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.01)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return Ended(-99, "it hung", 0)
    code = os.waitstatus_to_exitcode(status)
    text = said.read_text(errors="replace") if said.exists() else ""
    number = counted.read_text() if counted.exists() else ""
    return Ended(code, text, int(number or 0))


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder and the sha256 of what it holds; links by what they lead to."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


class Ready(NamedTuple):
    """A command that ran undisturbed once.

    Attributes:
      argv: its words.
      original: a folder with all that it reads.
      expected: `tree` of that folder after it.
      writes: that it made.
      scratch: for copies of the folder.
    """

    argv: tuple[str, ...]
    original: Path
    expected: dict[str, str]
    writes: int
    scratch: Path


def prepared(command: Written, scratch: Path) -> Ready:
    """Runs a command undisturbed, and counts what it writes."""
    original = scratch / "original"
    original.mkdir()
    command.make(original)
    ready = Ready(command.argv, original, {}, 0, scratch)
    folder = _copy(ready)
    ended = ran(command.argv, Shim(0, ""), scratch)
    assert ended.code == 0, ended.said
    return ready._replace(expected=tree(folder), writes=ended.writes)


def tried(ready: Ready, at: int, fault: str) -> Trial:
    """One fault, then, unless everything was done, the same command without one.

    A killed process may leave a temporary directory, which the next one removes.

    Args:
      at: the number of the write that fails.
    """
    folder, expected = _copy(ready), ready.expected
    before = tree(folder)
    first = ran(ready.argv, Shim(at, fault), ready.scratch)
    after = tree(folder)

    def wrong() -> str:
        if touched := [
            n for n, content in before.items() if after.get(n) not in (content, expected[n])
        ]:
            return f"it changed {touched}"
        if "Traceback" in first.said or first.code not in (0, 2, -signal.SIGKILL):
            return f"exit code {first.code}: {first.said.strip().splitlines()[-1:]}"
        if first.code == 2 and len(first.said.strip().splitlines()) > 3:
            return f"it says much: {first.said}"
        if not differing(after, expected):  # all was done before the fault, or despite it
            return ""
        if first.code == 0:
            return f"exit code 0, and wrong: {differing(after, expected)}"
        second = ran(ready.argv, Shim(0, fault), ready.scratch)
        if second.code != 0:
            return f"again: exit code {second.code}: {second.said.strip()[-200:]}"
        left = tree(folder)
        return f"again: {differing(left, expected)}" if differing(left, expected) else ""

    return Trial(fault, at, wrong())


def differing(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """Files that only one of two trees has, or that differ, temporary ones aside."""
    names = found.keys() | wanted.keys()
    return sorted(n for n in names if found.get(n) != wanted.get(n) and ".partial" not in n)


def _copy(ready: Ready) -> Path:
    folder = ready.scratch / "work"
    os.chdir(ready.scratch)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ready.original, folder, symlinks=True)
    os.chdir(folder)
    return folder
