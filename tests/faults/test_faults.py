"""Every write of a command fails once: see `tests.faults`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.commands.runs import of_run
from tests.faults.commands.written import Written
from tests.faults.shim import applies
from tests.faults.trial import Ended, Ready, wrong_at_first

ROOT = Path(__file__).parents[2]


def faults(*flags: str) -> subprocess.CompletedProcess[str]:
    """The program in its own process: it forks, which JAX's threads would not survive."""
    return subprocess.run(
        [sys.executable, "-m", "tests.faults", *flags],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


def test_some_writes_of_a_merge_fail_without_a_trace():
    done = faults("--commands", "merge", "--every", "9")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("| merge | ")


@pytest.mark.slow
def test_every_write_of_a_merge_with_a_state_fails_without_a_trace():
    """Output and state are two renames, between which anything may happen."""
    done = faults("--commands", "merge with a state")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_some_writes_of_other_commands_fail_without_a_trace():
    done = faults("--commands", "merge into an adapter", "prepare", "export", "--every", "13")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_some_writes_of_a_runs_checkpoints_fail_without_a_trace():
    """Orbax writes them in its own threads, which would print traces of their own."""
    done = faults(
        *("--commands", "run", "--within", "orbax", "--first", "7", "--every", "30"),
        *("--faults", "ENOSPC"),
    )
    assert done.returncode == 0, done.stdout + done.stderr


READY = Ready(
    Written(lambda folder: None, (), own="run/"),
    Path(),
    expected={"mine": "a", "out/weights": "b", "run/rows": "c"},
    read={},
    writes=(),
    callers=(),
    scratch=Path(),
)
DEAD = Ended(-signal.SIGKILL, "", True)
REFUSED = Ended(2, "note: one\nerror: out cannot be written", True)


@pytest.mark.parametrize(
    ("ended", "after", "found"),
    [
        (REFUSED, {"mine": "a", "run/rows": "half"}, ""),
        (DEAD, {"mine": "a", ".out.partial/weights": "half"}, ""),
        (DEAD, {"mine": "else"}, "it changed ['mine']"),
        (DEAD, {}, "it changed ['mine']"),
        (DEAD, {"mine": "a", "out/weights": "half"}, "it leaves ['out/weights']"),
        (REFUSED, {"mine": "a", ".out.partial/weights": "b"}, "it leaves ['.out.partial/weights']"),
        (Ended(1, "Traceback\nOSError: x", True), {"mine": "a"}, "exit code 1: ['OSError: x']"),
        (Ended(2, "", True), {"mine": "a"}, "it says not one sentence: "),
    ],
)
def test_what_counts_as_wrong(ended, after, found):
    assert wrong_at_first(READY, ended, {"mine": "a"}, after) == found


def test_of_a_runs_files_only_times_do_not_count():
    def lines(loss: float, seconds: float) -> bytes:
        line = {"loss": loss, "seconds": seconds, "images_per_second": 1 / seconds}
        return json.dumps(line).encode() + b"\n"

    same, slower, other = lines(0.5, 1.0), lines(0.5, 2.0), lines(0.25, 1.0)
    kept = [of_run("run/metrics.jsonl", content) for content in (same, slower, other)]
    assert kept[0] == kept[1] != kept[2]
    assert of_run("run/results.jsonl", same) == same


def test_python_repeats_what_a_signal_interrupts_but_not_a_rename():
    assert applies("EINTR", "replace") and not applies("EINTR", "fsync")
    assert applies("short", "pwrite") and not applies("short", "replace")
    assert applies("kill", "unlink") and not applies("ENOSPC", "unlink")
