"""Written output appears whole or not at all."""

import errno
import os

import numpy as np
import pytest
from safetensors.numpy import load_file

from magmax_jax.errors import UserError
from magmax_jax.io.atomic import new_directory
from magmax_jax.io.safetensors import writer
from magmax_jax.io.safetensors.reader import open_tensors
from magmax_jax.io.safetensors.writer import DirectoryWriter

CONTENT = {"a": np.arange(6, dtype=np.float32), "b": np.arange(4, dtype=np.int64), "c": np.ones(())}
LAYOUT = {name: (array.dtype, array.shape) for name, array in CONTENT.items()}


def write(output, shard_bytes=1 << 20) -> None:
    with new_directory(output) as partial, DirectoryWriter(partial, LAYOUT, shard_bytes) as writer:
        for name, array in CONTENT.items():
            writer.write(name, array)


@pytest.mark.parametrize(("shard_bytes", "files"), [(1 << 20, 1), (60, 2), (1, 3)])
def test_written_tensors_are_read_back(tmp_path, shard_bytes, files):
    write(tmp_path / "out", shard_bytes)
    found = open_tensors(tmp_path / "out")
    assert len(found.files) == files
    read = {}
    for file in found.files:
        read |= load_file(file)
    assert read.keys() == CONTENT.keys()
    for name, array in CONTENT.items():
        np.testing.assert_array_equal(read[name], array)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("function", ["posix_fallocate", "pwrite"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch, call, function, error):
    """Neither files nor disk space held by open descriptors."""
    real, calls, before = getattr(os, function), [], os.listdir("/proc/self/fd")

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise error
        return real(*arguments)

    monkeypatch.setattr(writer.os, function, failing)
    with pytest.raises(UserError if isinstance(error, OSError) else KeyboardInterrupt) as raised:
        write(tmp_path / "out", shard_bytes=1)
    if isinstance(error, OSError):
        assert str(raised.value) == f"{tmp_path / 'out'} cannot be written (full)"
    assert not list(tmp_path.iterdir())
    assert os.listdir("/proc/self/fd") == before


def test_a_system_without_fallocate(tmp_path, monkeypatch):
    monkeypatch.delattr(writer.os, "posix_fallocate")
    write(tmp_path / "out")
    np.testing.assert_array_equal(load_file(tmp_path / "out/model.safetensors")["a"], CONTENT["a"])


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "file").write_text("mine")
    for output in (tmp_path, tmp_path / "file"):
        with pytest.raises(UserError, match="already exists: choose another directory"):
            write(output)
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "file" / "below")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
