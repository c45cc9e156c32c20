"""Same results on eight devices as on one; the program is `sharded.py`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.virtual_devices import virtual_devices


@pytest.mark.slow
def test_every_analysis_gives_the_same_numbers_on_sharded_arrays(tmp_path):
    shown = subprocess.run(
        [sys.executable, "-m", "tests.analysis.sharded", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ
        | virtual_devices(8, f"--xla_dump_to={tmp_path}")
        | {
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "0",  # compares bits: compile as users do
            "JAX_ENABLE_COMPILATION_CACHE": "false",  # programs from the cache are not dumped
        },
    )
    assert shown.returncode == 0, shown.stderr
    assert "the same numbers on 8 devices as on one" in shown.stdout
