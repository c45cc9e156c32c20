"""The benchmark of training at its smallest: what it tells and computes, not how fast."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks import train
from benchmarks.entries import COLUMNS, Entry, rows
from benchmarks.largest import largest
from benchmarks.train import main
from benchmarks.trainers import Trainer, Work, trainers
from benchmarks.turns import ROOT, Contestant

TORCH = find_spec("torch") and find_spec("transformers")
TINY = "--size tiny --repeats 2 --steps 2 --limit-sides 64".split()


def cells(text: str) -> list[list[str]]:
    """The rows of the tables in a text, without their headings."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    found = [[cell.strip() for cell in line] for line in lines]
    return [line for line in found if line[0] and not line[0].startswith("--")]


def test_contenders_train_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # compiles sooner
    output = tmp_path / "train.md"
    only = ["--only", "ours", "torch, eager"]
    assert main([*TINY, "--batch-sizes", "3", *only, "--output", str(output)]) == 0
    ours, torch, limit = cells(output.read_text())
    assert [len(row) for row in (ours, torch, limit)] == [len(COLUMNS)] * 3
    assert ours[0] == "ours" and ours[1] == "3" and ours[6] == "1.00" and ours[-1] == "ok"
    assert torch[0] == "torch, eager" and limit[0] == "limit: matmul" and limit[5] == "100.0 %"
    first, peaks, *told = map(json.loads, output.with_suffix(".jsonl").read_text().splitlines())
    assert {"processor", "device", "computation"} <= first["environment"].keys()
    assert all(facts["flops"] > 0 for facts in peaks["peaks"].values())
    runs = [row for row in told if "seconds" in row]
    names = ["ours", "torch, eager"] if TORCH else ["ours"]
    assert [(row["contender"], row["repeat"]) for row in runs] == [
        (name, repeat) for repeat in range(2) for name in names
    ]
    ends = {row["contender"]: row for row in told if "facts" in row}
    assert list(ends) == names
    for end in ends.values():
        assert np.isfinite(end["facts"]["loss"]) and end["facts"]["memory"] > 50e6
        assert end["facts"]["steps"] == 2 and end["outcome"] == "ok"
    if not TORCH:
        assert torch[-1].startswith("absent: ModuleNotFoundError")


ROOM = """
from benchmarks.turns import Prepared, serve

def prepare(settings):
    if settings["batch_size"] > settings["room"]:
        raise MemoryError("no room")
    return Prepared({"steps": 1, "compile": 0.0}, lambda: None)

serve(prepare)
"""
"""A contender that has room for so many images."""


def test_each_finds_its_largest_batch_and_absent_ones_have_a_row(tmp_path, monkeypatch):
    command = (sys.executable, "-c", ROOM)
    field = [Trainer(f"room for {n}", command, {"room": n}, {}, peer=False) for n in (1, 5, 9)]
    field += [Trainer("absent", command, {"room": 9}, {}, peer=True)]
    monkeypatch.setattr(train, "trainers", lambda *arguments: field)
    monkeypatch.setattr(train, "why_absent", lambda *arguments: "ImportError: no torch")
    output = tmp_path / "train.md"
    bounds = "--batch-sizes 3 largest --largest-from 2 --largest-at-most 8".split()
    assert main([*TINY, *bounds, "--output", str(output)]) == 0
    table = [(row[0], row[1], row[-1]) for row in cells(output.read_text())]
    gone = ("absent", "", "absent: ImportError: no torch")
    assert table == [
        ("room for 1", "3", "MemoryError: no room"), ("room for 5", "3", "ok"),
        ("room for 9", "3", "ok"), gone, ("limit: matmul", "3", ""),
        ("room for 1", "1", "2: MemoryError: no room"),
        ("room for 5", "4", "6: MemoryError: no room"),
        ("room for 9", "8", "not tried above 8"), gone,
        *(("limit: matmul", n, "") for n in ("1", "4", "8")),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("room", "at_most", "expected"),
    [
        (7, 100, (6, "8: MemoryError: no room")),
        (5, 100, (4, "6: MemoryError: no room")),
        (100, 4, (4, "not tried above 4")),
        (1, 100, (1, "2: MemoryError: no room")),
        (0, 100, (0, "1: MemoryError: no room")),
    ],
)
def test_the_largest_batch_is_the_last_that_does_not_fail(room, at_most, expected):
    def contestant(size: int) -> Contestant:
        settings = {"batch_size": size, "room": room}
        return Contestant("any", [sys.executable, "-c", ROOM], settings)

    assert largest(2, at_most, contestant) == expected


def test_rows_hold_all_against_ours_and_the_limit():
    def entry(name: str, batch: int, seconds: list[float], **facts) -> Entry:
        ended = Contestant(name, [], {}, facts={"steps": 2, "compile": -0.1} | facts)
        ended.seconds = seconds
        return Entry(name, batch, ended, "ok")

    entries = [
        entry("ours", 8, [2.0, 4.0, 2.0], memory=2.5e9),  # 1 s a step
        entry("theirs", 4, [4.0, 4.0, 4.0]),
        Entry("gone", 0, None, "absent: why"),
    ]
    ours, theirs, gone, *limits = rows(entries, peak=320.0, flops=10.0)
    runs = "1 2 1"
    assert ours == ["ours", "8", "1", runs, "8.0", "25.0 %", "1.00", "2.50 GB", "0.0", "ok"]
    assert theirs[4:8] == ["2.0", "6.2 %", "4.00", ""]
    assert gone == ["gone", *[""] * 8, "absent: why"]
    assert [limit[:5] for limit in limits] == [
        ["limit: matmul", "4", "0.125", "", "32.0"],
        ["limit: matmul", "8", "0.25", "", "32.0"],
    ]


def test_who_trains_is_a_matter_of_the_platform():
    def named(platform: str, dtype: str, modes=("default",)) -> dict:
        found = trainers(Work("tiny", dtype, 1, platform), Path("python"), modes)
        return {trainer.name: trainer for trainer in found}

    gpu = named("gpu", "bfloat16", ("default", "max-autotune-no-cudagraphs"))
    assert list(gpu) == [
        "ours", "torch, compiled", "torch, compiled, max-autotune-no-cudagraphs", "torch, eager",
        "official recipe",
    ]  # fmt: skip
    assert gpu["torch, eager"].settings["device"] == "cuda"
    assert gpu["torch, eager"].settings["way"] == {"autocast": True, "tf32": False}
    assert named("gpu", "float32")["torch, eager"].settings["way"]["tf32"]
    assert gpu["official recipe"].settings["way"] == {"fused": False}
    cpu = named("cpu", "float32")
    assert cpu["ours, huge pages"].variables and cpu["torch, eager, huge pages"].variables
    assert not cpu["torch, eager"].settings["way"]["tf32"]


@pytest.mark.parametrize(
    "arguments",
    [["--only", "nobody"], ["--batch-sizes", "0"], ["--repeats", "0"], ["--peers", "/no/python"]],
)
def test_mistakes_are_told_in_a_sentence(arguments, capsys):
    assert main([*TINY, *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_who_asks_holds_no_device():
    program = (
        "import sys, benchmarks.train\n"
        "from jax._src import xla_bridge\n"
        "sys.exit(xla_bridge.backends_are_initialized() or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
