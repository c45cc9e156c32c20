"""Labels and names, cached in memory and next to the data while its files are unchanged."""

import importlib
import os

import numpy as np
import pytest

from magmax_jax.data.readers import label_cache

LABELS = np.array([1, 0, 2], np.int32)


class Records(list):
    """Counts its reads."""

    def __init__(self, labels=LABELS):
        super().__init__({"label": int(k), "file": f"{k}ä.jpg".encode()} for k in labels)
        self.reads = 0

    def __getitems__(self, rows):
        self.reads += 1
        return [self[row] for row in rows]


def new_process(monkeypatch):
    """Simulates a new process: nothing in memory, and every file is worth caching."""
    importlib.reload(label_cache)
    monkeypatch.setattr(label_cache, "WORTH", 0)


@pytest.fixture(params=["memory", "file"])
def read(request, tmp_path, monkeypatch):
    """Reads the columns of some records, in this process or in a new one each time."""
    shard(tmp_path).write_bytes(b"data")

    def call(records, part="train", key="file"):
        if request.param == "file":
            new_process(monkeypatch)
        return label_cache.columns(records, str(tmp_path), part, key)

    yield call
    written = list(tmp_path.glob("columns-*"))
    assert (request.param == "file") == bool(written)
    assert not list(tmp_path.glob("*.partial"))


def shard(folder):
    return folder / "toy-train.array_record-00000-of-00001"


def test_read_once(read):
    records = Records()
    for _ in range(2):
        labels, files = read(records)
        np.testing.assert_array_equal(labels, LABELS)
        assert labels.dtype == np.int32 and not labels.flags.writeable
        assert files == ["1ä.jpg", "0ä.jpg", "2ä.jpg"]
    assert records.reads == 1
    assert read(records, key=None)[1] == read(records, key=None)[1] == []
    read(records, part="test+validation")
    assert records.reads == 3


@pytest.mark.parametrize("change", ["size", "time", "one more"])
def test_changed_files_are_read_again(read, change, tmp_path):
    read(Records())
    if change == "size":
        shard(tmp_path).write_bytes(b"other data")
    elif change == "time":
        os.utime(shard(tmp_path), ns=(1, 1))
    else:
        shard(tmp_path).with_name("toy-test.array_record-00000-of-00001").touch()
    assert read(Records(LABELS[:2]))[0].tolist() == [1, 0]


class TestFiles:
    @pytest.fixture(autouse=True)
    def a_shard(self, tmp_path, monkeypatch):
        shard(tmp_path).touch()
        self.monkeypatch = monkeypatch

    def read(self, folder):
        new_process(self.monkeypatch)
        records = Records()
        labels, files = label_cache.columns(records, str(folder), "train", "file")
        assert labels.tolist() == LABELS.tolist() and len(files) == 3
        return records.reads

    def test_an_invalid_file_is_rewritten(self, tmp_path):
        path = tmp_path / "columns-train-file.npz"
        assert self.read(tmp_path) == 1
        whole = path.read_bytes()
        with np.load(path) as kept:
            stamp = kept["stamp"]
        for damaged in (b"", b"no archive", whole[:100], whole[: len(whole) // 2]):
            path.write_bytes(damaged)
            assert (self.read(tmp_path), self.read(tmp_path)) == (1, 0)
        for wrong in (
            {"labels": LABELS[:2], "texts": ["a", "b"]},
            {"labels": LABELS, "texts": ["a"]},
            {"labels": LABELS.astype(float), "texts": ["a", "b", "c"]},
            {"labels": LABELS},
        ):
            np.savez(path, stamp=stamp, **wrong)
            assert (self.read(tmp_path), self.read(tmp_path)) == (1, 0)

    def test_an_unwritable_folder_is_tolerated(self, tmp_path, monkeypatch):
        def refuse(*_, **__):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(label_cache.Path, "open", refuse)
        assert (self.read(tmp_path), self.read(tmp_path)) == (1, 1)
        assert [path.name for path in tmp_path.iterdir()] == [shard(tmp_path).name]

    def test_nothing_is_cached_if_no_files_are_found(self, tmp_path):
        for _ in range(2):
            assert self.read(tmp_path / "nowhere") == 1
