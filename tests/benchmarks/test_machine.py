"""What is reported about the machine, versions and the device."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import jax
import pytest

from benchmarks import machine
from benchmarks.contenders import ROOT
from magmax_jax.errors import UserError

pytestmark = pytest.mark.slow


def test_our_versions_are_reported_and_plugins_if_installed():
    described = machine.describe(None, "none-of-that-name")
    assert {"processor", "cores", "memory", "system"} <= described.keys()
    assert f"jax {jax.__version__}, " in described["ours"] and "cuda" not in described["ours"]
    assert described["ours"].endswith("none-of-that-name absent")


def test_a_torch_for_cuda_is_reported_with_its_version(tmp_path, monkeypatch):
    """A package that cannot be imported: only its version is read."""
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError")
    (package / "version.py").write_text("cuda = '13.0'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert " (CUDA 13.0), " in machine.describe(Path(sys.executable))["peers"]
    monkeypatch.setenv("PYTHONPATH", "")
    if not find_spec("torch"):
        assert "torch absent," in machine.describe(Path(sys.executable))["peers"]


def test_a_child_reports_what_this_process_sees():
    here = machine.here()
    assert (here.platform, here.count) == (jax.default_backend(), jax.device_count())
    assert here.memory_bytes > 2**28 and here.kind in here.facts["device"]
    assert machine.peak_bytes() > 2**20
    assert machine.ask()._replace(memory_bytes=0) == here._replace(memory_bytes=0)


def test_a_python_without_jax_is_reported_in_one_sentence(tmp_path):
    lonely = tmp_path / "python"
    lonely.write_text("#!/bin/sh\necho ModuleNotFoundError: no jax >&2\nexit 1\n")
    lonely.chmod(0o755)
    with pytest.raises(UserError, match="finds no device: ModuleNotFoundError: no jax"):
        machine.ask(str(lonely))


@pytest.mark.parametrize("module", ["train", "evaluate", "merge", "scaling", "startup"])
def test_describing_the_machine_holds_no_device(module):
    program = (
        f"import sys, benchmarks.{module}\n"
        "from jax._src import xla_bridge\n"
        "sys.exit(xla_bridge.backends_are_initialized() or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
