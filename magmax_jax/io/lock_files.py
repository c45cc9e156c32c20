"""Lock files: one process at a time holds a directory, also on disks shared by several hosts.

On some disks other hosts do not see `flock`, and a killed process leaves other kinds of locks
behind. So a lock is a file, `lock.N`, that names its process. The process changes the file every
few seconds: its heartbeat. On the same machine a dead process is detected at once; from another
machine the heartbeat is watched. Clocks of different machines are never compared.

A dead process's lock is never removed and then recreated, which two processes could do at once.
Instead the next process creates `lock.N+1`, which only one can, and then removes the earlier ones.
"""

import contextlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from magmax_jax.io.processes import Process, lives, this_process
from magmax_jax.io.whole_writes import pwrite_all

BEAT = 10.0
"""Seconds between heartbeats."""
SILENT = 3
"""Heartbeats that a process on another host must miss to count as dead."""
_NAME = re.compile(r"lock\.(\d+)")
_PARTIAL = re.compile(r"lock\.[0-9a-f]+\.partial")


def is_lock_file(name: str) -> bool:
    """Whether a file of that name is a lock, or one being created."""
    return bool(_NAME.fullmatch(name) or _PARTIAL.fullmatch(name))


class Holder(NamedTuple):
    """Content of a lock file.

    Attributes:
      process: None if the file cannot be read, or is incomplete.
      token: random, unique to this lock; "" if the file cannot be read.
      since: local time with its offset from UTC, for display.
      inode: of the held directory, to distinguish it from copies.
      beat: changes with each heartbeat.
    """

    process: Process | None
    token: str
    since: str
    inode: int
    beat: object

    def __str__(self) -> str:
        if self.process is None:
            return "a process that its lock file does not name"
        return f"process {self.process.pid} on {self.process.host} (since {self.since})"


class Lock:
    """A directory held by this process, from `Claim.take` to `release`.

    Attributes:
      path: the lock file.
      before: the dead process whose directory was taken over.
    """

    def __init__(self, path: Path, record: dict[str, object], before: Holder | None, beat: float):
        self.path, self.before = path, before
        self._record = record
        # By descriptor, not by name: the name may belong to another process by now.
        self._file = os.open(path, os.O_WRONLY)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(beat,), daemon=True)
        self._thread.start()

    @property
    def is_held(self) -> bool:
        """Whether no other process took the lock while this one was suspended."""
        later = max(_locks(self.path.parent), default=0) > _number(self.path)
        return self._is_ours() and not later

    @property
    def successor(self) -> Holder | None:
        """The process that took it."""
        found = _locks(self.path.parent)
        return _read(found[max(found)]) if found else None

    def release(self) -> None:
        """Stops the heartbeat and removes the file, unless it is another process's."""
        self._end.set()
        self._thread.join(timeout=BEAT)
        with contextlib.suppress(OSError):
            if self._is_ours():
                self.path.unlink()
        if not self._thread.is_alive():  # a network disk may block it
            os.close(self._file)

    def _is_ours(self) -> bool:
        try:
            return str(self._record["token"]).encode() in self.path.read_bytes()
        except FileNotFoundError:
            return False
        except OSError:  # a failing network disk also fails the next write, which reports it
            return True

    def _beat(self, every: float) -> None:
        beats = 0
        while not self._end.wait(every):
            beats += 1
            # A disk error here also hits the holder, which reports it.
            with contextlib.suppress(OSError):
                pwrite_all(self._file, _text(self._record, beats), 0)
                os.fsync(self._file)


class Claim:
    """An attempt to hold a directory: `look` until no other process holds it, then `take`.

    Args:
      beat: seconds between heartbeats; must be the same for all claims of a directory.
    """

    def __init__(self, directory: Path, beat: float = BEAT):
        self._directory, self._beat = directory, beat
        self._seen: dict[tuple[int, str], tuple[object, float]] = {}
        self._dead: dict[tuple[int, str], Holder] = {}

    def look(self) -> tuple[Holder, bool] | None:
        """The process that holds the directory, if any, and whether it is known to be alive.

        If not, it is watched: `look` again until its heartbeat moves or it counts as dead.
        """
        found = _locks(self._directory)
        if not found:
            return None
        number = max(found)
        holder = _read(found[number])
        key = number, holder.token
        alive = self._is_alive(key, holder)
        if alive is False:
            self._dead[key] = holder
            return None
        return holder, bool(alive)

    def take(self) -> Lock | None:
        """The lock; None if another process was faster: `look` again.

        Raises:
          OSError: a disk operation fails.
        """
        known = {number for number, _ in self._dead}
        number = 1 + max(known, default=0)
        token = secrets.token_hex(8)
        record: dict[str, object] = {
            **this_process()._asdict(),
            "since": datetime.now().astimezone().isoformat(" ", "seconds"),
            "inode": self._directory.stat().st_ino,
            "token": token,
        }
        path = self._directory / f"lock.{number}"
        if not _make(path, _text(record, 0), token):
            return None
        others = {n: file for n, file in _locks(self._directory).items() if n != number}
        if any((n, _read(file).token) not in self._dead for n, file in others.items()):
            path.unlink()  # another process started meanwhile with another number: both back off
            return None
        for file in others.values():
            with contextlib.suppress(OSError):  # another user's: the highest number counts
                file.unlink()
        before = self._dead[max(self._dead)] if self._dead else None
        return Lock(path, record, before, self._beat)

    def _is_alive(self, key: tuple[int, str], holder: Holder) -> bool | None:
        """None while this is not known."""
        if key in self._dead:
            return False
        alive = None if holder.process is None else lives(holder.process)
        copied = holder.inode != self._directory.stat().st_ino
        if alive is not None and not (alive and copied):
            return alive
        now = time.monotonic()
        beat, since = self._seen.setdefault(key, (holder.beat, now))
        if beat != holder.beat:
            return True
        return False if now - since >= SILENT * self._beat else None


def _make(path: Path, text: bytes, token: str) -> bool:
    """Creates a file that is complete when it gets its name; False if the name exists."""
    partial = path.with_name(f"lock.{token}.partial")
    try:
        with partial.open("xb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(partial, path)
            return True
        except FileExistsError:
            # A network disk may retry after a lost reply, and report our own link as existing.
            return partial.stat().st_nlink > 1
        except OSError:  # no hard links on this disk
            return _make_in_place(path, text)
    finally:
        partial.unlink(missing_ok=True)


def _make_in_place(path: Path, text: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(text)
        return True
    except FileExistsError:
        return False


def _locks(directory: Path) -> dict[int, Path]:
    return dict(_named(directory))


def _named(directory: Path) -> Iterator[tuple[int, Path]]:
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        if _NAME.fullmatch(name):
            yield _number(Path(name)), directory / name


def _number(path: Path) -> int:
    return int(path.name.rpartition(".")[2])


def _text(record: dict[str, object], beats: int) -> bytes:
    """Fixed length, so that each heartbeat overwrites the previous one completely."""
    return f'{json.dumps(record)[:-1]}, "beats": {beats:>10}}}\n'.encode()


def _read(path: Path) -> Holder:
    """Content of a lock file, as far as it can be read."""
    beat: object = None
    try:
        # Reopening makes a network disk ask its server for changes.
        with path.open("rb") as file:
            text = file.read()
            beat = text, os.fstat(file.fileno()).st_mtime_ns
        found = json.loads(text)
        process = Process(**{name: found[name] for name in Process._fields})
        return Holder(process, found["token"], found["since"], found["inode"], beat)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        if beat is None:
            with contextlib.suppress(OSError):
                beat = path.stat().st_mtime_ns
        return Holder(None, "", "", 0, beat)
