"""Runs that are killed, stopped or find damaged checkpoints give the same results."""

import dataclasses
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from magmax_jax.errors import Interrupted, UserError
from magmax_jax.evaluation.counts_file import read_counts
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.preemption import stop_signals
from magmax_jax.runs.progress import NullProgress
from magmax_jax.runs.train import run
from tests.helpers.interruptions import Arguments, Run, config, disturb
from tests.report.made_up import with_matrices


@pytest.fixture(scope="module")
def arguments(tiny_clip, tmp_path_factory):
    directory = tmp_path_factory.mktemp("interrupted")
    return Arguments(directory, tiny_clip, kills=2, regularizer="lwf")


@pytest.fixture(scope="module")
def undisturbed(arguments):
    reference = Run(arguments, "undisturbed")
    reference.finish()
    return reference


@pytest.mark.slow
def test_a_run_killed_at_random_moments_gives_the_same_result(arguments, undisturbed, capsys):
    """A few kills; `python -m tests.helpers.interruptions` does as many as requested."""
    assert disturb(arguments, undisturbed.digest(), duration=12)
    assert capsys.readouterr().out.count("kill") == 2


@pytest.mark.slow
def test_a_run_asked_to_stop_saves_and_says_how_to_resume(arguments, undisturbed):
    """SIGTERM in the middle of a task; the newest checkpoint is then also damaged."""
    stopped = Run(arguments, "stopped")
    child = stopped.start()
    said = []
    for line in child.stdout:
        said.append(line)
        if ("task 2" in line and "loss" in line) or "max_magnitude" in line:
            child.send_signal(signal.SIGTERM)
            break
    said += child.stdout.read().splitlines()
    assert child.wait() == 128 + signal.SIGTERM, said
    assert said[-1].startswith("resume with: magmax run --config "), said

    checkpoints = stopped.out / "checkpoints"
    newest = checkpoints / str(stopped.newest())
    largest = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 16
    largest.write_bytes(content)
    text = " ".join(stopped.finish().split())
    assert "is damaged" in text and "resuming" in text
    assert (checkpoints / f"{newest.name}.damaged").is_dir()
    assert stopped.digest() == undisturbed.digest()


@pytest.mark.slow
def test_lost_and_truncated_files_of_a_finished_run(arguments, undisturbed):
    """Lost rows are measured again from the checkpoint of the last task."""
    before = undisturbed.digest()
    rows = undisturbed.out / "results.jsonl"
    lines = rows.read_text().splitlines(keepends=True)
    rows.write_text("".join(lines[:-3]) + lines[-3][:20])
    text = undisturbed.finish()
    assert "resuming after task 3 of 3" in " ".join(text.split())
    assert undisturbed.digest() == before
    rows.unlink()  # those of earlier tasks are in the checkpoint
    undisturbed.finish()
    assert undisturbed.digest() == before


class StopInTaskTwo(NullProgress):
    """Sends SIGTERM to its own process in the middle of the second task."""

    @contextmanager
    def training(self, name, steps, images, first=0) -> Iterator:
        def after(step, metrics) -> None:
            if "task 2" in name and step == steps // 2:
                signal.raise_signal(signal.SIGTERM)

        yield after


def test_a_stopped_run_resumes_to_the_same_rows_and_counts(arguments, tmp_path):
    """In one process, unlike the slow tests above, which end processes; from files of an earlier
    version, whose confusions are matrices."""

    def losses(out: RunDirectory) -> list[float]:
        return [json.loads(line)["loss"] for line in out.metrics.read_text().splitlines()]

    short = config(dataclasses.replace(arguments, every=4, regularizer="none"))
    short = dataclasses.replace(short, train=dataclasses.replace(short.train, epochs=2))
    whole, stopped = (RunDirectory(tmp_path / name) for name in ("whole", "stopped"))
    rows = run(short, whole)
    with pytest.raises(Interrupted):
        run(short, stopped, StopInTaskTwo())
    assert {row.after_task for row in stopped.rows()} == {0, 1}
    with_matrices(stopped.path)
    assert run(short, stopped) == rows
    assert losses(stopped) == losses(whole)
    names = sorted(file.name for file in whole.counts.iterdir())
    assert names == sorted(file.name for file in stopped.counts.iterdir())
    matrices = [name for name in names if "confusion" in load_file(stopped.counts / name)]
    assert matrices == [name for name in names if name[:3] in ("000", "001")]
    for name in names:
        expected, found = (read_counts(out.counts / name) for out in (whole, stopped))
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_no_readable_checkpoint_is_an_error(arguments, tmp_path):
    out = RunDirectory(tmp_path / "run")
    out.start(config(arguments))
    for number in (5, 9):
        (out.checkpoints / str(number)).mkdir(parents=True)
    with pytest.raises(UserError, match="no checkpoint that can be read: --overwrite starts"):
        run(config(arguments), out)


def test_no_resume_and_another_configuration_are_refused(arguments, tmp_path):
    path = tmp_path / "run"
    RunDirectory(path).start(config(arguments))
    with pytest.raises(UserError, match="--no-resume does not resume it"):
        run(config(arguments), RunDirectory(path, resume=False))
    other = dataclasses.replace(config(arguments), seed=6)
    with pytest.raises(UserError, match=r"another configuration \(seed: 5 there, 6 here\)"):
        run(other, RunDirectory(path))


def test_too_little_disk_space_is_noticed_before_any_work(arguments, tmp_path, monkeypatch):
    usage = lambda path: type("Usage", (), {"free": 1_000_000})()  # noqa: E731
    monkeypatch.setattr("magmax_jax.runs.train.shutil.disk_usage", usage)
    out = RunDirectory(tmp_path / "run")
    with pytest.raises(UserError, match=r"checkpoints of this run take up to 0\.0 GB"):
        run(config(arguments), out)
    assert not out.path.exists()


@pytest.fixture
def sigint():
    """Default handling of Ctrl-C, even if the tests were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_first_signal_is_noted_and_the_second_acts(sigint):
    said = []
    with stop_signals(said.append) as stop:
        assert not stop.at(1)
        stop.check()
        signal.raise_signal(signal.SIGINT)
        assert stop.at(2) and len(said) == 1
        with pytest.raises(Interrupted):
            stop.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    before = signal.getsignal(signal.SIGTERM)
    with stop_signals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_ignored_signal_stays_ignored(sigint):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stop_signals() as stop:
        signal.raise_signal(signal.SIGINT)
        assert not stop.at(1)


def test_other_threads_do_not_touch_signals():
    found = []

    def other() -> None:
        with stop_signals() as stop:
            found.append(stop.at(1))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == [False]
