"""Temporary directories that are removed even after the process that made them was killed.

A process holds a lock on each of its own for as long as it lives, and the name says on which host.
Whoever next makes one beside the same path removes those of its own host that nobody holds. Locks
of other hosts are not seen everywhere, so theirs stay, and `rooms_elsewhere` names them.
"""

import contextlib
import fcntl
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".partial"


@contextlib.contextmanager
def room_beside(path: Path) -> Iterator[Path]:
    """A temporary directory on the same disk as `path`, in the same directory; removed afterwards.

    Raises:
      OSError: the disk refuses.
    """
    for left in _rooms(path, _host()):
        _remove_unless_held(left)
    room, lock = _held_room(path)
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)
        os.close(lock)


@contextlib.contextmanager
def scratch_room() -> Iterator[Path]:
    """A directory of the system's for temporary files; removed afterwards.

    Raises:
      OSError: the disk refuses.
    """
    with room_beside(Path(tempfile.gettempdir()) / "magmax") as room:
        yield room


def rooms_elsewhere(path: Path) -> list[Path]:
    """What processes on other hosts hold beside `path`, or left there when they were killed."""
    ours = set(_rooms(path, _host()))
    return [room for room in _rooms(path, "") if room not in ours]


def _held_room(path: Path) -> tuple[Path, int]:
    """A new room, and the descriptor that holds its lock."""
    while True:
        prefix = f".{_stem(path)}-{_host()}-"
        room = Path(tempfile.mkdtemp(prefix=prefix, suffix=SUFFIX, dir=path.parent))
        try:
            lock = os.open(room, os.O_RDONLY)
        except FileNotFoundError:  # somebody took it for one that was left: it had no lock yet
            continue
        # Some network file systems lock no directories: there a room that was left stays.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        if room.exists():
            return room, lock
        os.close(lock)


def _rooms(path: Path, host: str) -> list[Path]:
    """All rooms beside `path` of this host, or with "" of any."""
    start = f".{_stem(path)}-{host}-" if host else f".{_stem(path)}-"
    random = r"[a-z0-9_]{8}" if host else r"[A-Za-z0-9.]+-[a-z0-9_]{8}"
    pattern = re.compile(re.escape(start) + random + re.escape(SUFFIX))
    try:
        names = os.listdir(path.parent)
    except OSError:
        return []
    return sorted(path.parent / name for name in names if pattern.fullmatch(name))


def _remove_unless_held(room: Path) -> None:
    try:
        lock = os.open(room, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # another user's, or gone
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(room, ignore_errors=True)
    except OSError:
        pass
    finally:
        os.close(lock)


def _stem(path: Path) -> str:
    """The path's name, or as much of a long one as leaves space for the rest of a room's name.

    Paths of the same beginning share their rooms' then, which does no harm: rooms are locked.
    """
    return os.fsencode(path.name)[:160].decode(errors="ignore")


def _host() -> str:
    """The host's name, without what names of files or the pattern cannot hold."""
    return re.sub(r"[^A-Za-z0-9.]+", "", socket.gethostname())[:40] or "localhost"
