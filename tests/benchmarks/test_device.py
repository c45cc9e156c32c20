"""What the parent of contenders asks of processes that have ended."""

import subprocess
import sys

import jax
import pytest

from benchmarks import device, peak
from benchmarks.turns import ROOT, take_turns
from magmax_jax.errors import UserError


def test_a_child_tells_what_this_process_sees():
    here = device.here()
    assert (here.platform, here.count) == (jax.default_backend(), jax.device_count())
    assert here.memory_bytes > 2**28 and here.kind in here.facts["device"]
    assert device.peak_bytes() > 2**20
    assert device.ask()._replace(memory_bytes=0) == here._replace(memory_bytes=0)


def test_a_python_without_jax_is_told_in_a_sentence(tmp_path):
    lonely = tmp_path / "python"
    lonely.write_text("#!/bin/sh\necho ModuleNotFoundError: no jax >&2\nexit 1\n")
    lonely.chmod(0o755)
    with pytest.raises(UserError, match="finds no device: ModuleNotFoundError: no jax"):
        device.ask(str(lonely))


def test_the_peak_is_the_median_of_all_turns_but_the_first():
    (ended,) = take_turns([peak.contestant("float32", sides=(64, 128))], repeats=3)
    assert len(ended.facts["all"]) == 3
    assert peak.rate(ended) == sorted(ended.facts["all"])[1] > 0


def test_a_peak_that_fails_is_told():
    (ended,) = take_turns([peak.contestant("no number")], repeats=1)
    with pytest.raises(RuntimeError, match="the matmul peak is not known: TypeError"):
        peak.rate(ended)


def test_who_asks_has_not_imported_jax():
    program = "import sys; from benchmarks import device, peak; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
