"""One process group per run: a second one is refused, and dead processes do not block."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from magmax_jax.config import ExperimentConfig
from magmax_jax.errors import UserError
from magmax_jax.evaluation.rows import Row
from magmax_jax.io.lock_files import Claim
from magmax_jax.io.processes import this_process
from magmax_jax.runs.directory import RunDirectory, run_directories
from magmax_jax.runs.holding import held
from magmax_jax.runs.train import run
from magmax_jax.sharding import build_layout
from tests.helpers.interruptions import ROOT, Arguments, Run, config
from tests.io.test_lock_files import BEAT, ELSEWHERE, ended_process, write_lock

CONFIG = ExperimentConfig()
ROW = Row(1, "max_magnitude", 0.5, "agnostic", "all", 0.25, 8)

PROGRAM = """
import os, sys
import jax
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from magmax_jax.config import ExperimentConfig
from magmax_jax.errors import UserError
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.holding import held
from magmax_jax.sharding import build_layout
layout = build_layout(ExperimentConfig())
out = RunDirectory(sys.argv[3], writes=layout.is_first)
try:
    with held(out, layout, print, float((sys.argv[4:] or [1.0])[0])):
        print("held:", *os.listdir(sys.argv[3]))
        layout.meet("the end")
except UserError as error:
    print(error)
"""
"""One of a run's two processes, which hold its directory and do nothing there."""


@contextmanager
def holding(out, said=None, beat=BEAT):
    with held(out, build_layout(CONFIG), [].append if said is None else said.append, beat):
        yield


def test_a_second_process_is_refused_and_leaves_the_run_untouched(tmp_path):
    out = RunDirectory(tmp_path / "run")
    with holding(out):
        out.start(CONFIG)
        out.append([ROW])
        before = {path.name: path.stat() for path in out.path.iterdir() if path.name != "lock.1"}
        me = this_process()
        for overwrite in (False, True):
            sentence = (
                rf"run is already in use by process {me.pid} on {me.host} \(since 20.*\): wait "
                "until that ends, or choose another --out"
            )
            with (
                pytest.raises(UserError, match=sentence),
                holding(RunDirectory(out.path, overwrite)),
            ):
                raise AssertionError("both hold it")
        after = {path.name: path.stat() for path in out.path.iterdir() if path.name != "lock.1"}
        assert after == before
    assert "lock.1" not in os.listdir(out.path)
    with holding(RunDirectory(out.path)):
        pass


def test_the_run_is_released_after_errors(tmp_path):
    out = RunDirectory(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), holding(out):
        raise KeyboardInterrupt
    assert os.listdir(out.path) == [] and out.lock is None


def test_a_second_run_is_refused_before_it_loads_a_model(tmp_path):
    out, other = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "run", overwrite=True)
    missing = dataclasses.replace(
        config(Arguments(tmp_path, tmp_path / "no-model")), checkpoint=CONFIG.checkpoint
    )
    with holding(out):
        out.start(missing)
        for second in (RunDirectory(out.path), other):
            with pytest.raises(UserError, match="is already in use by process"):
                run(missing, second)


def test_dead_processes_are_replaced_and_named(tmp_path):
    write_lock(tmp_path, ended_process())
    said = []
    with holding(RunDirectory(tmp_path), said, beat=10):
        [note] = said
        assert note.startswith("note: process ") and "ended without releasing" in note
        assert os.listdir(tmp_path) == ["lock.2"]


def test_a_silent_host_is_waited_for_and_replaced(tmp_path):
    write_lock(tmp_path, ELSEWHERE)
    said = []
    with holding(RunDirectory(tmp_path), said):
        pass
    waiting, taking = said
    assert f"on node7 (since then) may be running in {tmp_path}: waiting up to 0.15 s" in waiting
    assert "on node7 (since then) ended without releasing" in taking


def test_a_directory_with_only_a_lock_counts_as_empty(tmp_path):
    write_lock(tmp_path, ended_process())
    (tmp_path / "lock.0123abcd.partial").write_text("")
    out = RunDirectory(tmp_path)
    assert not out.holds(CONFIG) and list(run_directories(tmp_path)) == []
    (tmp_path / "lock.txt").write_text("")
    with pytest.raises(UserError, match="is not empty, and what it holds is not a run"):
        out.holds(CONFIG)


def test_a_suspended_and_replaced_process_stops_writing(tmp_path):
    out = RunDirectory(tmp_path / "run")
    with holding(out, beat=10):
        out.start(CONFIG)
        out.append([ROW])
        later = write_lock(out.path, ELSEWHERE, number=2)
        for write in (out.append, out.keep, out.keep_swept):
            with pytest.raises(UserError, match=r"taken over by process .* on node7"):
                write([ROW, ROW])
        assert out.rows() == [ROW] and out.swept() == []
    assert later.exists()


@pytest.mark.parametrize("lost", ["run", "run/lock.1"])
def test_a_process_whose_directory_or_lock_is_moved_says_so_and_stops_writing(tmp_path, lost):
    out = RunDirectory(tmp_path / "run")
    with holding(out, beat=10):
        out.start(CONFIG)
        (tmp_path / lost).rename(tmp_path / "elsewhere")
        with pytest.raises(UserError, match=r"run, or lock\.1 in it, was moved or removed while"):
            out.append([ROW])
    assert out.rows() == []


def test_an_unwritable_path_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    out = RunDirectory(tmp_path / "file" / "run")
    with pytest.raises(UserError, match=r"cannot be written \(Not a directory\)"), holding(out):
        raise AssertionError


@pytest.mark.slow
def test_processes_started_on_one_directory(tiny_clip, tmp_path):
    arguments = Arguments(tmp_path, tiny_clip, regularizer="none")
    alone, both = Run(arguments, "alone"), Run(arguments, "both")
    alone.finish()

    def steps():
        metrics = both.out / "metrics.jsonl"
        text = metrics.read_text() if metrics.exists() else ""
        return [json.loads(line)["total_step"] for line in text.splitlines(keepends=True)[:-1]]

    def wait_for_steps(number):
        began = time.monotonic()
        while len(steps()) < number:
            assert first.poll() is None and time.monotonic() - began < 120
            time.sleep(0.02)

    first = both.start()
    wait_for_steps(3)
    second = both.start()
    refusal, _ = second.communicate()
    assert second.returncode == 2 and first.poll() is None
    assert f"already in use by process {first.pid} on" in refusal and "Traceback" not in refusal
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert (both.out / "lock.1").exists()

    first = both.start()
    wait_for_steps(len(steps()) + 3)
    first.send_signal(signal.SIGTERM)
    text, _ = first.communicate()
    assert first.returncode == 128 + signal.SIGTERM
    assert "ended without releasing" in " ".join(text.split())  # lines wrap
    assert not list(both.out.glob("lock.*"))

    text = both.finish()
    assert "without releasing" not in " ".join(text.split()) and not list(both.out.glob("lock.*"))
    assert both.digest() == alone.digest()
    assert len(steps()) == len(set(steps()))


@pytest.mark.slow
@pytest.mark.parametrize("silent", [False, True])
def test_several_processes_of_one_run_hold_it_together_or_not_at_all(tmp_path, silent):
    """All of them wait for a silent remote process."""
    lock = None if silent else Claim(tmp_path).take()
    if silent:
        write_lock(tmp_path, ELSEWHERE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, address, str(number), str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )
        for number in range(2)
    ]
    shown = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], shown
    if lock is not None:
        assert all(f"is already in use by process {os.getpid()} on" in text for text in shown)
        assert os.listdir(tmp_path) == ["lock.1"]
        lock.release()
    else:
        assert "waiting up to 3 s" in shown[0] and "ended without releasing" in shown[0]
        assert all("held: lock.2" in text for text in shown) and "node7" not in shown[1]
        assert os.listdir(tmp_path) == []
