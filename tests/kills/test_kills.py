"""Merges that are killed at random moments: see `tests.kills`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_merges_that_are_killed_end_as_undisturbed_ones_do():
    """In a process of its own: it forks, which JAX's threads would not survive.

    Not with a state: output and state are published one after the other.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.kills", "--number", "6", "--only", "merge"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("| merge | ") and last.endswith(" | 0 |"), done.stdout
