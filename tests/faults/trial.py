"""One command, one fault: what is left, and what the same command makes of it."""

import contextlib
import hashlib
import importlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from magmax_jax.cli.main import main
from magmax_jax.cli.streams import run_quietly
from magmax_jax.io.lock_files import is_lock_file
from tests.faults.commands.written import Written
from tests.faults.shim import Shim

SECONDS = 900
"""After which a command hangs: many times what it takes on a busy machine."""


class Ended(NamedTuple):
    """How a process ended.

    Attributes:
      code: its exit status; negative for the signal that ended it.
      said: its standard error.
      struck: whether the fault happened.
      writes: functions that it called to write.
      callers: of each of them, as in `Shim`.
      modules: that it had imported, in their order.
    """

    code: int
    said: str
    struck: bool
    writes: tuple[str, ...] = ()
    callers: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


class Trial(NamedTuple):
    """What a fault did; `wrong` is "" where all is well."""

    fault: str
    at: int
    struck: bool
    wrong: str


def ran(argv: Sequence[str], shim: Shim, scratch: Path) -> Ended:
    """Runs a command in a child of this process, which has imported everything already."""
    return forked(lambda: run_quietly(lambda: main(list(argv))), shim, scratch)


def forked(task: Callable[[], int], shim: Shim, scratch: Path) -> Ended:
    """Runs a function that returns an exit status in a child of this process."""
    said, noted = scratch / "said", scratch / "noted"
    for path in (said, noted):
        path.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        code = 70
        try:
            for number, stream in ((1, os.devnull), (2, str(said))):
                os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
            note = os.open(noted, os.O_WRONLY | os.O_CREAT, 0o600)
            write = os.write
            shim.install()
            try:
                code = task()
            except BaseException:
                traceback.print_exc()
            with contextlib.suppress(OSError):
                sys.stderr.flush()
            facts = {
                "struck": shim.struck,
                "writes": shim.names,
                "callers": shim.callers,
                "modules": [*sys.modules],
            }
            write(note, json.dumps(facts).encode())
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
        return Ended(-99, "it hung", True)
    code = os.waitstatus_to_exitcode(status)
    text = said.read_text(errors="replace") if said.exists() else ""
    facts = json.loads(noted.read_text() or "null") if noted.exists() else None
    if facts is None:  # it was killed
        return Ended(code, text, True)
    writes, callers, modules = (tuple(facts[key]) for key in ("writes", "callers", "modules"))
    return Ended(code, text, facts["struck"], writes, callers, modules)


def tree(folder: Path, counts: Callable[[str, bytes], bytes | None]) -> dict[str, str]:
    """Every file below a folder and the sha256 of what counts of it; links by what they lead to.

    Locks are left out: the next command takes over the one of a process that ended.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file() and not is_lock_file(path.name):
            content = path.read_bytes()
            with contextlib.suppress(ValueError):  # a line was cut off
                counted = counts(name, content)
                if counted is None:
                    continue
                content = counted
            found[name] = hashlib.sha256(content).hexdigest()
    return found


class Ready(NamedTuple):
    """A command that ran undisturbed once.

    Attributes:
      honest: a folder with all that it reads.
      expected: `tree` of that folder after it.
      read: `tree` after its `reads` as well.
      writes: functions that it called to write, in their order.
      callers: of each of them.
      scratch: for copies of the folder.
    """

    command: Written
    honest: Path
    expected: dict[str, str]
    read: dict[str, str]
    writes: tuple[str, ...]
    callers: tuple[str, ...]
    scratch: Path


def prepared(command: Written, scratch: Path) -> Ready:
    """Runs a command undisturbed, and notes what it calls to write.

    Args:
      scratch: a folder; folders that commands start from are made there once, for all of them.
    """
    work = scratch / "work"
    honest = _started(command, scratch)
    ready = Ready(command, honest, {}, {}, (), (), scratch)
    for _ in range(2):  # the first one also fills JAX's compilation cache
        _copy(ready)
        alone = _undisturbed(command.argv, scratch)
    expected = tree(work, command.counts)
    for argv in command.reads:
        _undisturbed(argv, scratch)
    return ready._replace(
        expected=expected,
        read=tree(work, command.counts),
        writes=alone.writes,
        callers=alone.callers,
    )


def _started(command: Written, scratch: Path) -> Path:
    """The folder that a command starts from: made under the name that it has in every trial."""
    key = repr((command.make.__qualname__, command.patch, command.before, command.killed))
    honest, work = scratch / hashlib.sha256(key.encode()).hexdigest()[:16], scratch / "work"
    if honest.exists():
        return honest
    writes = _made(command, command.before, scratch)
    if command.killed:
        *before, last = command.before
        _made(command, before, scratch)
        ended = ran(last, Shim(2 * writes // 3, "kill"), scratch)
        assert ended.code == -signal.SIGKILL, ended
    os.chdir(scratch)
    os.rename(work, honest)
    return honest


def _made(command: Written, before: Sequence[Sequence[str]], scratch: Path) -> int:
    """Makes the folder `work` and runs commands there; returns how often the last one wrote."""
    work = scratch / "work"
    os.chdir(scratch)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    os.chdir(work)
    command.patch(work)
    ended = _undisturbed(lambda: command.make(work), scratch)
    for argv in before:
        ended = _undisturbed(argv, scratch)
    return len(ended.writes)


def _undisturbed(task: Sequence[str] | Callable[[], None], scratch: Path) -> Ended:
    """Also imports here what was imported there, which takes longer than all that follows."""

    def called() -> int:
        task()
        return 0

    shim = Shim(0, "")
    ended = forked(called, shim, scratch) if callable(task) else ran(task, shim, scratch)
    assert ended.code == 0, ended.said
    for name in ended.modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    return ended


def tried(ready: Ready, at: int, fault: str) -> Trial:
    """One fault, then, unless everything was done, the same command without one.

    Args:
      at: the number of the write that fails.
    """
    command, expected = ready.command, ready.expected
    folder = _copy(ready)
    before = tree(folder, command.counts)
    first = ran(command.argv, Shim(at, fault), ready.scratch)
    after = tree(folder, command.counts)
    if not first.struck:
        return Trial(fault, at, False, "")
    wrong = wrong_at_first(ready, first, before, after)
    if not wrong and (differing(after, expected) or command.reads):
        if differing(after, expected):  # otherwise all was done before the fault, or despite it
            if first.code == 0:
                wrong = f"exit code 0, and wrong: {differing(after, expected)}"
            else:
                again = ran(command.argv, Shim(0, fault), ready.scratch)
                wrong = _wrong_again(again, tree(folder, command.counts), expected)
        if command.reads and not wrong:
            for argv in command.reads:
                reading = ran(argv, Shim(0, fault), ready.scratch)
                wrong = wrong or _wrong_again(reading, {}, {})
            wrong = wrong or _wrong_again(reading, tree(folder, command.counts), ready.read)
    return Trial(fault, at, True, wrong)


def wrong_at_first(
    ready: Ready, ended: Ended, before: dict[str, str], after: dict[str, str]
) -> str:
    """What is wrong with the command that had the fault, "" for nothing."""
    own, expected = ready.command.own, ready.expected
    if touched := [
        name
        for name, content in before.items()
        if not name.startswith(own) and after.get(name) not in (content, expected[name])
    ]:
        return f"it changed {touched}"
    if "Traceback" in ended.said or ended.code not in (0, 2, -signal.SIGKILL):
        return f"exit code {ended.code}: {ended.said.strip().splitlines()[-1:]}"
    if ended.code == 2 and ended.said.count("error: ") != 1:
        return f"it says not one sentence: {ended.said}"
    new = [n for n in after if n not in before and not n.startswith(own)]
    half = [n for n in new if after[n] != expected.get(n)]
    # A killed process may leave a temporary directory, which the next command removes.
    if ended.code == -signal.SIGKILL:
        half = [n for n in half if ".partial" not in n]
    return f"it leaves {half}" if half else ""


def _wrong_again(ended: Ended, left: dict[str, str], expected: dict[str, str]) -> str:
    if ended.code != 0:
        return f"again: exit code {ended.code}: {ended.said.strip()[-300:]}"
    return f"again: {differing(left, expected)}" if differing(left, expected) else ""


def differing(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """Files that only one of two trees has, or that differ, temporary ones aside."""
    names = found.keys() | wanted.keys()
    return sorted(n for n in names if found.get(n) != wanted.get(n) and ".partial" not in n)


def _copy(ready: Ready) -> Path:
    folder = ready.scratch / "work"
    os.chdir(ready.scratch)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ready.honest, folder, symlinks=True)
    os.chdir(folder)
    return folder
