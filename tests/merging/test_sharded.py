"""Same results on several devices as on one; the programs are `sharded.py`, `placements.py`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.virtual_devices import virtual_devices


def run(module: str, *arguments: str, devices: int, optimized: bool = False) -> str:
    shown = subprocess.run(
        [sys.executable, "-m", f"tests.merging.{module}", *arguments],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ
        | virtual_devices(devices)
        | {"OPENBLAS_NUM_THREADS": "1"}  # eight decompositions at once need no further threads
        | ({"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"} if optimized else {}),
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return shown.stdout


def test_rules_give_the_same_bits_under_explicit_and_auto_axes():
    """Two rules, one of which reshapes sharded arrays; the slow tests cover all rules."""
    some = ("max_magnitude", "model_stock")
    assert "same bits on 4 devices as on one" in run("sharded", "merge", *some, devices=4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ways", "devices", "optimized"),
    [
        ("merge", 8, True),  # compares bits: compile as users do
        ("merge,functions,jit", 4, False),
        ("merge", 1, False),
    ],
)
def test_every_rule_gives_the_same_bits_on_every_mesh(ways, devices, optimized):
    shown = run("sharded", ways, devices=devices, optimized=optimized)
    assert f"same bits on {devices} devices as on one" in shown


@pytest.mark.slow
def test_results_are_placed_like_theta_0_wherever_its_leaves_are():
    assert "placed like theta_0" in run("placements", devices=8)
