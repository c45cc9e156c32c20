"""Temporary directories disappear after their process, however it ended; live ones are kept."""

import os
import signal
import subprocess
import sys

import pytest

from magmax_jax.io import rooms
from magmax_jax.io.atomic import new_directory, write_text
from magmax_jax.io.rooms import room_beside, rooms_elsewhere, scratch_room

PROGRAM = (
    "import os, pathlib, signal, sys\n"
    "from magmax_jax.io.rooms import room_beside\n"
    "with room_beside(pathlib.Path(sys.argv[1])) as room:\n"
    "    (room / 'half').write_text('half')\n"
    "    print(room, flush=True)\n"
    "    sys.stdin.read()\n"
)


@pytest.fixture
def other(tmp_path):
    """Another process with a room next to `out`."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "out")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline()
    yield process
    process.communicate()


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_room_of_a_live_process_is_kept(other, tmp_path):
    (theirs,) = names(tmp_path)
    with room_beside(tmp_path / "out") as room:
        assert names(tmp_path) == sorted([theirs, room.name])
    assert names(tmp_path) == [theirs]
    other.communicate()
    assert names(tmp_path) == []


@pytest.mark.parametrize("what", ["directory", "file"])
def test_leftovers_of_a_killed_process_are_removed_by_the_next(other, tmp_path, what):
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert len(names(tmp_path)) == 1
    if what == "file":
        write_text(tmp_path / "out", "whole")
    else:
        with new_directory(tmp_path / "out"):
            pass
    assert names(tmp_path) == ["out"]


def test_only_rooms_next_to_the_same_path_are_considered(other, tmp_path):
    other.send_signal(signal.SIGKILL)
    other.wait()
    before = names(tmp_path)
    for name in ("ou", "out-b", "out.txt"):
        with room_beside(tmp_path / name):
            pass
    assert names(tmp_path) == before


def test_another_hosts_room_is_kept_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(rooms.socket, "gethostname", lambda: "node-b.cluster")
    with room_beside(tmp_path / "out") as room:
        assert rooms_elsewhere(tmp_path / "out") == []
        monkeypatch.setattr(rooms.socket, "gethostname", lambda: "node-a.cluster")
        with room_beside(tmp_path / "out"):
            assert room.is_dir() and rooms_elsewhere(tmp_path / "out") == [room]
            assert rooms_elsewhere(tmp_path / "other") == []


def test_a_disk_without_locks_keeps_leftovers(tmp_path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(rooms.fcntl, "flock", refuse)
    with room_beside(tmp_path / "out") as first, room_beside(tmp_path / "out"):
        assert first.is_dir()
    assert names(tmp_path) == []


def test_scratch_rooms_are_where_temporary_files_are(tmp_path, monkeypatch):
    monkeypatch.setattr(rooms.tempfile, "tempdir", str(tmp_path))
    with scratch_room() as room:
        assert room.parent == tmp_path and os.stat(room).st_mode & 0o077 == 0
    assert names(tmp_path) == []
