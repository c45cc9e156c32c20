"""The benchmark of merging files at its smallest: no claims about time."""

import json
import math
from importlib.util import find_spec

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks import checkpoints
from benchmarks.checkpoints import compare, make_checkpoints, tensor_shapes
from benchmarks.contenders import ROOT
from benchmarks.merge import main
from benchmarks.workloads import SIZES
from magmax_jax.io.safetensors.reader import open_tensors
from magmax_jax.models import CLIP
from tests.benchmarks.test_train import cells


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return make_checkpoints(tmp_path_factory.mktemp("work"), "tiny", models=2)


@pytest.mark.slow
def test_contenders_are_compared_on_the_same_files(paths, tmp_path):
    output = tmp_path / "results.md"
    flags = ["--size", "tiny", "--models", "2", "--repeats", "1", "--output", str(output)]
    names = ["ours: max_magnitude", "ours: max_magnitude, no checksums"]
    names[1:1] = ["before: max_magnitude"]
    names += ["official: max_magnitude", "limit: cat", "limit: read and write"]
    only = ["--before", str(ROOT), "--only", *names[:4], "limit: *"]
    assert main(["files", *flags, *only, "--work", str(paths[0].parent.parent)]) == 0
    (_, *columns), *rows = cells(output.read_text())
    table = {name: row for name, *row in rows}
    assert list(table) == names
    peers = find_spec("torch") is not None
    ran = [name for name in names if peers or name != "official: max_magnitude"]
    assert all(float(table[name][0]) >= 0 for name in ran)
    assert float(table[names[0]][columns.index("times ours")]) == 1
    assert [table[name][-1] for name in names[1:3]] == ["bit-identical"] * 2
    if peers:
        assert table["official: max_magnitude"][-1] == "bit-identical"
    else:
        assert table["official: max_magnitude"][0].startswith("absent: ModuleNotFoundError")
    first, *records = map(json.loads, output.with_suffix(".jsonl").read_text().splitlines())
    assert {"processor", "cores", "ours", "before", "peers"} <= first["environment"].keys()
    calls = [row for row in records if "seconds" in row]
    assert [row["contender"] for row in calls] == ran
    assert all(row["models"] == 2 and row["seconds"] > 0 for row in calls)
    assert {row["outcome"] for row in records if row["contender"] in ran and "outcome" in row} == {
        "ok"
    }
    assert not list(paths[0].parent.parent.glob("outputs-*"))


@pytest.mark.slow
def test_checkpoints_are_valid_clips_and_reproducible(paths, tmp_path):
    CLIP.from_pretrained(paths[1])  # refuses any name or shape that is not CLIP's
    again = make_checkpoints(tmp_path, "tiny", models=2)
    for a, b in zip(paths, again, strict=True):
        assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    before = paths[2].stat().st_mtime_ns
    assert make_checkpoints(paths[0].parent.parent, "tiny", models=2) == paths
    assert paths[2].stat().st_mtime_ns == before
    theta_0, theta_1 = (load_file(p / "model.safetensors") for p in paths[:2])
    for name, shape in tensor_shapes(SIZES["tiny"]).items():
        assert theta_0[name].shape == shape and (theta_0[name] != theta_1[name]).any()


def test_vit_b16_has_its_published_number_of_parameters():
    assert sum(map(math.prod, tensor_shapes(SIZES["vit-b16"]).values())) == 149_620_737


@pytest.mark.slow
def test_invalid_input_gives_a_one_sentence_error(capsys, tmp_path):
    assert main(["files", "--peers", str(tmp_path)]) == 2
    assert main(["memory", "--rules", "maxmag"]) == 2
    assert main(["memory", "--tasks", "0"]) == 2
    assert main(["files", "--only", "nobody"]) == 2
    assert main(["files", "--repeats", "0"]) == 2
    assert main(["memory", "--peers", str(tmp_path)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in said] == ["error"] * 6
    assert "'maxmag' is not a merge rule" in said[1]
    assert main([]) == 2


def test_differences_are_reported(tmp_path):
    for name, value in (("a", [1.0, 2.0, 4.0]), ("b", [1.0, 2.5, 4.0]), ("c", [np.nan, 2.0, 4.0])):
        (tmp_path / name).mkdir()
        save_file({"w": np.float32(value)}, tmp_path / name / "model.safetensors")
    assert compare(tmp_path / "a", tmp_path / "a") == "bit-identical"
    assert compare(tmp_path / "a", tmp_path / "b") == "differs by up to 5.0e-01, in 1 entries"
    assert "nan" in compare(tmp_path / "a", tmp_path / "c")
    (tmp_path / "d").mkdir()
    assert compare(tmp_path / "a", tmp_path / "d") == "not compared: no file of tensors"
    save_file({"v": np.float32([1.0])}, tmp_path / "d" / "model.safetensors")
    assert compare(tmp_path / "a", tmp_path / "d") == "not compared: other tensors"


def test_7b_checkpoints_are_bfloat16_in_shards(tmp_path, monkeypatch):
    sizes = {"WIDTH": 8, "INNER": 16, "KEYS": 4, "VOCABULARY": 20}
    for name, value in sizes.items():
        monkeypatch.setattr(checkpoints, name, value)
    paths = make_checkpoints(tmp_path, "7b", models=1)
    for path in paths:
        files = open_tensors(path)  # refuses shards that the index does not describe
        assert len(files.files) == 4
        assert {n: t.shape for n, t in files.tensors.items()} == checkpoints.seven_b_shapes()
        assert {t.dtype for t in files.tensors.values()} == {np.dtype(ml_dtypes.bfloat16)}
    assert compare(paths[0], paths[0]) == "bit-identical"
    assert compare(*paths).startswith("differs by up to")


def test_7b_has_the_parameters_that_its_flag_names():
    assert sum(map(math.prod, checkpoints.seven_b_shapes().values())) == 698_372_096
