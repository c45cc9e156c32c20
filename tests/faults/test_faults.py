"""Every write of a command fails once: see `tests.faults`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
def test_every_write_of_merges_fails_without_a_trace():
    """Not of one with a state: output and state are published one after the other, and a fault in
    between leaves the output of a merge that the state does not have."""
    done = faults("--commands", "merge", "merge to a file", "merge with ties")
    assert done.returncode == 0, done.stdout + done.stderr
