"""Partial writes are continued."""

import os

import numpy as np
import pytest
from safetensors.numpy import load_file

from magmax_jax.io.safetensors.writer import FileWriter
from magmax_jax.io.whole_writes import pwrite_all


@pytest.fixture
def short_writes(monkeypatch):
    """The system takes at most seven bytes at a time."""
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: real(file, bytes(data[:7]), at))


def test_all_bytes_arrive(short_writes, tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as file:
        for data in (bytes(range(50)), bytearray(b"x" * 20), memoryview(np.arange(5.0)), b""):
            pwrite_all(file.fileno(), data, 3)
            assert path.read_bytes()[3 : 3 + len(bytes(data))] == bytes(data)


def test_a_safetensors_file_has_its_whole_header(short_writes, tmp_path):
    weights = {"w": np.arange(12, dtype=np.float32).reshape(3, 4)}
    writer = FileWriter(tmp_path / "a.safetensors", {"w": (np.dtype("f4"), (3, 4))})
    writer.write("w", weights["w"])
    writer.close({"format": "pt"})
    np.testing.assert_array_equal(load_file(tmp_path / "a.safetensors")["w"], weights["w"])
