"""Temporary directories that are removed even if the process that created them was killed.

A process holds a lock on each of its directories while it is alive, and the name includes the host.
The next process to create one beside the same path removes unlocked ones of its own host. Locks of
other hosts are not visible on every disk, so theirs stay, and `rooms_elsewhere` lists them.
"""

import contextlib
import fcntl
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from magmax_jax.io.removal import remove

SUFFIX = ".partial"


@contextlib.contextmanager
def room_beside(path: Path) -> Iterator[Path]:
    """A temporary directory on the same disk as `path`, in the same directory; removed afterwards.

    Raises:
      OSError: a disk operation fails.
    """
    remove_abandoned(path)
    room, lock = _held_room(path)
    try:
        yield room
    finally:
        remove(room)
        os.close(lock)


@contextlib.contextmanager
def scratch_room() -> Iterator[Path]:
    """A directory in the system's place for temporary files; removed afterwards.

    Raises:
      OSError: a disk operation fails.
    """
    with room_beside(Path(tempfile.gettempdir()) / "magmax") as room:
        yield room


def rooms_elsewhere(path: Path) -> list[Path]:
    """Rooms beside `path` that processes on other hosts hold, or left behind when killed."""
    ours = set(_rooms(path, _host()))
    return [room for room in _rooms(path, "") if room not in ours]


def remove_abandoned(path: Path) -> None:
    """Removes the rooms beside `path` that killed processes of this host left behind."""
    for room in abandoned_rooms(path):
        remove(room)


def abandoned_rooms(path: Path) -> Iterator[Path]:
    """Rooms beside `path` that killed processes of this host left behind.

    Each is held until the next one is asked for, so that no other process removes it meanwhile.
    """
    for room in _rooms(path, _host()):
        try:
            lock = os.open(room, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # another user's, or gone
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held, or on a disk without locks
            os.close(lock)
            continue
        try:
            yield room
        finally:
            os.close(lock)


def _held_room(path: Path) -> tuple[Path, int]:
    """A new room, and the file descriptor that holds its lock."""
    while True:
        prefix = f".{_stem(path)}-{_host()}-"
        room = Path(tempfile.mkdtemp(prefix=prefix, suffix=SUFFIX, dir=path.parent))
        try:
            lock = os.open(room, os.O_RDONLY)
        except FileNotFoundError:  # another process removed it as stale: not yet locked
            continue
        # Some network file systems cannot lock directories: there stale rooms stay.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        if room.exists():
            return room, lock
        os.close(lock)


def _rooms(path: Path, host: str) -> list[Path]:
    """All rooms beside `path` of this host, or of any host if ""."""
    start = f".{_stem(path)}-{host}-" if host else f".{_stem(path)}-"
    random = r"[a-z0-9_]{8}" if host else r"[A-Za-z0-9.]+-[a-z0-9_]{8}"
    pattern = re.compile(re.escape(start) + random + re.escape(SUFFIX))
    try:
        names = os.listdir(path.parent)
    except OSError:
        return []
    return sorted(path.parent / name for name in names if pattern.fullmatch(name))


def _stem(path: Path) -> str:
    """The path's name, truncated to leave space for the rest of a room's name.

    Paths with the same prefix then share room names, which is harmless: rooms are locked.
    """
    return os.fsencode(path.name)[:160].decode(errors="ignore")


def _host() -> str:
    """The host's name, without characters that file names or the pattern cannot contain."""
    return re.sub(r"[^A-Za-z0-9.]+", "", socket.gethostname())[:40] or "localhost"
