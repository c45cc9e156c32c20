"""Lock files: one process holds a directory; a dead process's lock is taken over exactly once."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from magmax_jax.io.lock_files import SILENT, Claim, is_lock_file
from magmax_jax.io.processes import lives, this_process

BEAT = 0.05
HERE = this_process()
ELSEWHERE = HERE._replace(host="node7", kernel="another boot pid:[1]")


def write_lock(directory, process, number=1, **changes):
    """A lock as a killed process leaves it."""
    record = {**process._asdict(), "since": "then", "inode": directory.stat().st_ino} | changes
    path = directory / f"lock.{number}"
    path.write_text(json.dumps(record | {"token": f"{process.host}{number}", "beats": 0}))
    return path


def ended_process():
    """A process of this machine whose pid is no longer in use."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return HERE._replace(pid=child.pid)


def wait_for(claim):
    """Polls until decided: None if the directory is free, else the holder."""
    began = time.monotonic()
    while (found := claim.look()) and not found[1]:
        assert time.monotonic() - began < 10
        time.sleep(BEAT / 10)
    return found and found[0]


def test_one_process_holds_the_lock_and_the_other_sees_which(tmp_path):
    lock = Claim(tmp_path, BEAT).take()
    assert lock.is_held and lock.before is None
    holder, alive = Claim(tmp_path, BEAT).look()
    assert alive and holder.process == HERE
    assert f"process {os.getpid()} on {HERE.host} (since 20" in str(holder)
    assert Claim(tmp_path, BEAT).take() is None
    assert os.listdir(tmp_path) == ["lock.1"] and is_lock_file("lock.1")
    lock.release()
    assert os.listdir(tmp_path) == []
    assert Claim(tmp_path, BEAT).look() is None


def test_heartbeats_only_touch_the_file(tmp_path):
    lock = Claim(tmp_path, BEAT / 10).take()
    before = json.loads(lock.path.read_text())
    time.sleep(BEAT)
    after = json.loads(lock.path.read_text())
    lock.release()
    assert after.pop("beats") > before.pop("beats") == 0
    assert after == before


def test_locks_of_dead_local_processes_are_taken_over_at_once(tmp_path):
    left = write_lock(tmp_path, ended_process())
    claim = Claim(tmp_path)  # with heartbeats of 10 s
    assert claim.look() is None
    lock = claim.take()
    assert lock.before.since == "then" and not left.exists()
    assert os.listdir(tmp_path) == ["lock.2"]
    lock.release()


@pytest.mark.parametrize("alive", [True, False])
def test_a_remote_process_is_known_by_its_heartbeat(tmp_path, alive):
    file = write_lock(tmp_path, ELSEWHERE)
    os.utime(file, (2**31, 2**31))  # its clock is wrong, but clocks are not compared
    claim, began = Claim(tmp_path, BEAT), time.monotonic()
    holder, known = claim.look()
    assert holder.process == ELSEWHERE and not known
    if alive:
        os.utime(file, (0, 0))
        assert wait_for(claim).process == ELSEWHERE
    else:
        assert wait_for(claim) is None
        assert time.monotonic() - began >= SILENT * BEAT
        claim.take().release()


@pytest.mark.parametrize("content", ["", '{"host": "node7", "pi', "[]", "null", '{"host": 1}'])
def test_a_truncated_lock_is_waited_for_and_taken_over(tmp_path, content):
    (tmp_path / "lock.3").write_text(content)
    claim = Claim(tmp_path, BEAT)
    holder, known = claim.look()
    assert not known and str(holder) == "a process that its lock file does not name"
    assert wait_for(claim) is None
    lock = claim.take()
    assert os.listdir(tmp_path) == ["lock.4"]
    lock.release()


def test_a_copy_of_a_held_directory_is_free(tmp_path):
    (tmp_path / "run").mkdir()
    lock = Claim(tmp_path / "run", BEAT).take()
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert wait_for(Claim(tmp_path / "copy", BEAT)) is None
    assert wait_for(Claim(tmp_path / "run", BEAT)).process == HERE
    lock.release()


def test_a_suspended_process_notices_that_it_was_replaced(tmp_path):
    suspended = Claim(tmp_path, 100).take()
    write_lock(tmp_path, ELSEWHERE, number=2)
    assert not suspended.is_held and suspended.successor.process == ELSEWHERE
    suspended.release()  # removes only its own lock
    assert os.listdir(tmp_path) == ["lock.2"]
    (tmp_path / "lock.2").unlink()  # the other process came and went
    assert not suspended.is_held and suspended.successor is None


def test_of_many_processes_at_once_exactly_one_takes_over(tmp_path):
    """Each time, with and without a lock left by a dead process."""
    for turn in range(10):
        for file in tmp_path.iterdir():
            file.unlink()
        if turn % 2:
            write_lock(tmp_path, ended_process(), number=turn)
        start, locks = threading.Barrier(8), []

        def take(start=start, locks=locks):
            claim = Claim(tmp_path)
            start.wait()
            while (found := claim.look()) is None or not found[1]:
                if found is None and (lock := claim.take()):
                    locks.append(lock)
                    return

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [lock.is_held for lock in locks] == [True]
        locks[0].release()
        assert os.listdir(tmp_path) == []


def test_disks_without_hard_links(tmp_path, monkeypatch):
    def refuse(*paths):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    lock = Claim(tmp_path, BEAT).take()
    assert lock.is_held and os.listdir(tmp_path) == ["lock.1"]
    assert Claim(tmp_path, BEAT).take() is None
    lock.release()


def test_a_process_is_identified_by_more_than_its_pid():
    assert lives(HERE) is True
    assert lives(HERE._replace(started=HERE.started + 1)) is False
    assert lives(ended_process()) is False
    assert lives(HERE._replace(pid=2**31 + 5)) is False
    assert lives(ELSEWHERE) is None


def test_a_zombie_process_is_dead():
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    started = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
    assert lives(HERE._replace(pid=child.pid, started=int(started))) is False
    child.wait()
