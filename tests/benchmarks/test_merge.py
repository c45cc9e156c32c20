"""The benchmark at its smallest: nothing here is a claim about time."""

import json
import math
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks.checkpoints import make_checkpoints
from benchmarks.comparing import compare
from benchmarks.contenders import Contender
from benchmarks.measuring import Limits, measure
from benchmarks.merge import main
from benchmarks.rounds import run_round
from benchmarks.shapes import SIZES
from benchmarks.tables import COLUMNS, merge_rows
from magmax_jax.models import CLIP

GENEROUS = Limits(memory=20e9, seconds=300)


def cells(text: str) -> dict[str, list[str]]:
    """The rows of the tables in a text, by their first cell."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {first.strip(): [cell.strip() for cell in rest] for first, *rest in lines}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return make_checkpoints(tmp_path_factory.mktemp("work"), "tiny", models=2, seed=0)


def test_contenders_are_compared_on_the_same_files(paths, tmp_path):
    output = tmp_path / "results.md"
    flags = ["--size", "tiny", "--models", "2", "--repeats", "1", "--output", str(output)]
    only = ["--only", "ours: max_magnitude", "official: max_magnitude", "limit: *"]
    main(["files", *flags, *only, "--work", str(paths[0].parent.parent)])
    table = cells(output.read_text())
    assert {len(row) for row in table.values()} == {len(COLUMNS) - 1}
    names = ["ours: max_magnitude", "official: max_magnitude", "limit: cat"]
    names += ["limit: read and write"]
    assert set(table) >= set(names)
    ran = [name for name in names if name != "official: max_magnitude" or find_spec("torch")]
    assert all(float(table[name][0]) >= 0 for name in ran)
    assert float(table["ours: max_magnitude"][2]) == 1
    if find_spec("torch"):
        assert table["official: max_magnitude"][-1] == "bit-identical"
    else:
        assert table["official: max_magnitude"][0].startswith("absent: ModuleNotFoundError")
    first, *rows = map(json.loads, output.with_suffix(".jsonl").read_text().splitlines())
    assert {"processor", "cores", "ours", "peers"} <= first["environment"].keys()
    assert [row["contender"] for row in rows] == [n for n in names if n in ran]
    assert all(row["outcome"] == "ok" and row["seconds"] > 0 for row in rows)
    assert not list(paths[0].parent.parent.glob("outputs-*"))


def child(name: str, program: str) -> Contender:
    return Contender(name, lambda job: [sys.executable, "-c", program], ours=name, merges=False)


def test_who_takes_too_much_is_ended_and_told_and_not_run_again(paths, tmp_path):
    field = [
        child("memory", "import time; held = bytearray(400_000_000); time.sleep(100)"),
        child("grandchild", "import subprocess as s, sys; s.run([sys.executable, '-c', "
              "'import time; held = bytearray(400_000_000); time.sleep(100)'])"),
        child("time", "import time; time.sleep(100)"),
        child("error", "raise RuntimeError('no such thing')"),
        child("fine", "held = bytearray(30_000_000); import time; time.sleep(0.2)"),
    ]  # fmt: skip
    limits = Limits(memory=0.2e9, seconds=3)
    done = run_round(field, paths, tmp_path / "out", 2, limits, once_over=60)
    rows = {row[0]: row[1:] for row in merge_rows(field, done.runs, {}, done.differences)}
    assert rows["memory"][0] == rows["grandchild"][0] == "> 0.2 GB"
    assert rows["time"][0] == "> 3 s"
    assert rows["error"][0] == "failed: RuntimeError: no such thing"
    counts = {name: len(runs) for name, runs in done.runs.items()}
    assert counts == {"memory": 1, "grandchild": 1, "time": 1, "error": 1, "fine": 2}
    for run in done.runs["fine"]:
        assert 30e6 < run.anonymous <= run.resident < 100e6
    assert not (tmp_path / "out").exists()


def test_who_takes_long_is_run_once(paths, tmp_path):
    field = [child("slow", "import time; time.sleep(0.5)"), child("fast", "pass")]
    done = run_round(field, paths, tmp_path / "out", 2, GENEROUS, once_over=0.4)
    assert [len(runs) for runs in done.runs.values()] == [1, 2]


def test_what_it_prints_is_kept(tmp_path):
    log = tmp_path / "log"
    run = measure([sys.executable, "-c", "print('hello')"], GENEROUS, log, tmp_path, {})
    assert run.outcome == "ok" and log.read_text() == "hello\n"


def test_checkpoints_are_clips_and_the_same_for_the_same_seed(paths, tmp_path):
    CLIP.from_pretrained(paths[1])  # refuses any name or shape that is not CLIP's
    again = make_checkpoints(tmp_path, "tiny", models=2, seed=0)
    for a, b in zip(paths, again, strict=True):
        assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    before = paths[2].stat().st_mtime_ns
    assert make_checkpoints(paths[0].parent.parent, "tiny", models=2, seed=0) == paths
    assert paths[2].stat().st_mtime_ns == before
    theta_0, theta_1 = (load_file(p / "model.safetensors") for p in paths[:2])
    for name, shape in SIZES["tiny"].shapes.items():
        assert theta_0[name].shape == shape and (theta_0[name] != theta_1[name]).any()


def test_vit_b16_has_its_published_number_of_parameters():
    assert sum(map(math.prod, SIZES["vit-b16"].shapes.values())) == 149_620_737


def test_mistakes_are_told_in_a_sentence(capsys, tmp_path):
    assert main(["files", "--peers", str(tmp_path)]) == 2
    assert main(["memory", "--rules", "maxmag"]) == 2
    assert main(["memory", "--tasks", "0"]) == 2
    assert main(["files", "--only", "nobody"]) == 2
    assert main(["files", "--repeats", "0"]) == 2
    assert main(["memory", "--peers", str(tmp_path)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in said] == ["error"] * 6
    assert "'maxmag' is no merge rule" in said[1]
    with pytest.raises(SystemExit, match="2"):
        main([])


def test_differences_are_told(tmp_path):
    for name, value in (("a", [1.0, 2.0, 4.0]), ("b", [1.0, 2.5, 4.0]), ("c", [np.nan, 2.0, 4.0])):
        (tmp_path / name).mkdir()
        save_file({"w": np.float32(value)}, tmp_path / name / "model.safetensors")
    assert str(compare(tmp_path / "a", tmp_path / "a")) == "bit-identical"
    told = str(compare(tmp_path / "a", tmp_path / "b"))
    assert told == "differs by up to 5.0e-01, in 1 entry"
    assert "nan" in str(compare(tmp_path / "a", tmp_path / "c"))
