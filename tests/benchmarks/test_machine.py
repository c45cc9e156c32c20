"""What is told of versions, and who may be a peer."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import jax
import pytest

from benchmarks import machine
from magmax_jax.errors import UserError


def test_ours_are_told_and_plugins_where_they_are():
    found = machine.versions(machine.OURS)
    assert found["jax"] == jax.__version__ and found["flax"][0].isdigit()
    assert found["optax"][0].isdigit()
    assert all(found.get(name) != "absent" for name in machine.PLUGINS)
    assert machine.versions(("none-of-that-name",)) == {"none-of-that-name": "absent"}


def test_a_torch_for_cuda_is_told_with_its_version(tmp_path, monkeypatch):
    """A package that cannot be imported: only its version is read."""
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError")
    (package / "version.py").write_text("cuda = '13.0'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    told = machine.peer_versions(Path(sys.executable))
    assert " (CUDA 13.0), " in told
    monkeypatch.setenv("PYTHONPATH", "")
    if not find_spec("torch"):
        assert "torch absent," in machine.peer_versions(Path(sys.executable))


def test_peers_python_is_a_file_that_can_be_run_and_stays_a_link(tmp_path):
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    assert machine.peers_python(link) == link
    assert machine.peers_python(Path(os.path.relpath(link))).is_absolute()
    (tmp_path / "text").write_text("")
    for wrong in (tmp_path, tmp_path / "text", tmp_path / "none"):
        with pytest.raises(UserError, match="is no python that can be run"):
            machine.peers_python(wrong)
