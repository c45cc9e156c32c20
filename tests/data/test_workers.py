"""Worker processes of a program without a main guard, and what remains when it ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import magmax_jax

pytestmark = pytest.mark.slow

PROGRAM = """
import sys
import numpy as np
from magmax_jax.data import Source, train_batches

class Mine(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")

class Images:  # defined in the main script, and of several sizes: read by the workers
    def __len__(self):
        return 12

    def __getitem__(self, index):
        if index == BAD:
            raise Mine("no", index)
        return np.full((20 + int(index), 30, 3), index, np.uint8)

source = Source(Images(), np.arange(12, dtype=np.int32), ("a",) * 12)
seen = []
for batch in train_batches(source, np.arange(12), 4, 2, seed=0, size=8, workers=2):
    seen += batch.label.tolist()
assert sorted(seen) == sorted([*range(12)] * 2)
print("read", len(seen))
"""


def start(how, text, folder):
    path = folder / "mine.py"
    path.write_text(text)
    command = {"script": [str(path)], "-c": ["-c", text], "stdin": ["-"]}[how]
    given = text if how == "stdin" else None
    there = {"PYTHONPATH": str(Path(magmax_jax.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, *command],
        input=given,
        env=os.environ | there,
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.parametrize("how", ["script", "-c", "stdin"])
def test_a_program_needs_no_main_guard_and_leaves_nothing_behind(how, tmp_path):
    done = start(how, PROGRAM.replace("BAD", "-1"), tmp_path)
    assert (done.returncode, done.stdout) == (0, "read 24\n"), done.stderr
    assert "leaked" not in done.stderr and "Traceback" not in done.stderr


def test_an_unpicklable_error_is_reported(tmp_path):
    done = start("script", PROGRAM.replace("BAD", "7"), tmp_path)
    assert done.returncode == 1 and "leaked" not in done.stderr
    assert "RuntimeError: in a worker process: Mine: no 7 (train.workers=0 shows" in done.stderr
