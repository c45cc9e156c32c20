"""The training benchmark at its smallest: what it reports and computes, not how fast."""

import json
from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks import train
from benchmarks.contenders import Served
from benchmarks.train import Settings, fitted, main, rows, trainers

TORCH = find_spec("torch") and find_spec("transformers")
TINY = "--size tiny --repeats 2 --steps 2 --limit-sides 64".split()


def cells(text: str) -> list[list[str]]:
    """The rows of the tables in a text, with their headings."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    found = [[cell.strip() for cell in line] for line in lines]
    return [line for line in found if set("".join(line)) - set("-:")]


@pytest.mark.slow
def test_contenders_train_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # compiles faster
    output = tmp_path / "train.md"
    only = ["--only", "ours", "torch, eager"]
    assert main([*TINY, "--batch-sizes", "3", *only, "--output", str(output)]) == 0
    _, ours, torch, limit = cells(output.read_text())
    assert ours[0] == "ours" and ours[1] == "3" and ours[6] == "1.00"
    assert torch[0] == "torch, eager" and limit[0] == "limit: matmul" and limit[5] == "100.0%"
    first, *records = map(json.loads, output.with_suffix(".jsonl").read_text().splitlines())
    assert {"processor", "device", "computation"} <= first["environment"].keys()
    flops = [row["flops"] for row in records if row["contender"] == "matmul" and "repeat" in row]
    assert len(flops) == 3 and min(flops) > 0
    records = [row for row in records if row["contender"] != "matmul"]
    names = ["ours", "torch, eager"] if TORCH else ["ours"]
    assert [(row["contender"], row["repeat"]) for row in records if "repeat" in row] == [
        (name, repeat) for repeat in range(2) for name in names
    ]
    ends = {row["contender"]: row for row in records if "outcome" in row}
    assert list(ends) == ["ours", "torch, eager"]
    for name in names:
        facts = ends[name]["facts"]
        assert np.isfinite(facts["loss"]) and facts["memory"] > 50e6
        assert ends[name]["outcome"] == "ok"
    if not TORCH:
        assert torch[2] == ends["torch, eager"]["outcome"]
        assert torch[2].startswith("absent: ModuleNotFoundError")


@pytest.mark.slow
def test_each_finds_its_largest_batch_and_absent_ones_have_a_row(tmp_path, monkeypatch):
    def one(name: str, room: int, needs: str | None = None) -> Served:
        function = "tests.benchmarks.fakes:room"
        return Served(name=name, function=function, settings={"room": room}, needs=needs)

    field = [one(f"room for {n}", n) for n in (1, 5, 9)] + [one("absent", 9, "no_such_module")]
    monkeypatch.setattr(train, "trainers", lambda *arguments: field)
    output = tmp_path / "train.md"
    bounds = "--batch-sizes 3 largest --largest-from 2 --largest-at-most 8".split()
    assert main([*TINY, *bounds, "--output", str(output)]) == 0
    table = [(row[0], row[1], row[2], row[-1]) for row in cells(output.read_text()) if row[0]]
    no_room = "failed: MemoryError: the device has no room for it"
    absent = ("absent", "absent: ModuleNotFoundError: No module named 'no_such_module'", "")
    assert [(name, batch) for name, batch, *_ in table] == [
        *((name, "3") for name in ("room for 1", "room for 5", "room for 9", "absent")),
        ("limit: matmul", "3"),
        ("room for 1", "2"), ("room for 5", "4"), ("room for 9", "8"), ("absent", "2"),
        ("limit: matmul", "4"), ("limit: matmul", "8"),
    ]  # fmt: skip
    assert table[0][2] == table[5][2] == no_room
    assert table[3][2:] == table[8][2:] == absent[1:]
    assert table[6][3] == f"8: {no_room}" and table[7][3] == "no more was tried"


def test_rows_compare_all_with_ours_and_the_limit():
    def ended(name: str, batch: int, seconds: list[float], **facts: float) -> Served:
        one = Served(name=name, function="", settings={}, labels={"batch": batch})
        one.calls += [{"seconds": taken} for taken in seconds]
        one.facts |= {"compile": -0.1, "memory": 2.5e9, **facts}
        return one

    field = [
        ended("ours", 8, [1.0, 2.0, 1.0]),
        ended("theirs", 4, [2.0, 2.0, 2.0], note="8: no room"),
        ended("gone", 8, []),
    ]
    field[2].failure = "absent: why"
    _, ours, theirs, gone, *limits = cells(rows(field, peak=320.0, flops=10.0))
    assert ours == ["ours", "8", "1", "1 2 1", "8.0", "25.0%", "1.00", "2.50 GB", "0.0", ""]
    assert theirs[4:] == ["2.0", "6.2%", "4.00", "2.50 GB", "0.0", "8: no room"]
    assert gone == ["gone", "8", "absent: why", *[""] * 7]
    assert [limit[:5] for limit in limits] == [
        ["limit: matmul", "4", "0.125", "", "32.0"],
        ["limit: matmul", "8", "0.25", "", "32.0"],
    ]


def test_contenders_depend_on_the_platform():
    def named(platform: str, **options: object) -> dict[str, Served]:
        settings = fitted(Settings(size="tiny", **options), platform)
        return {one.name: one for one in trainers(settings, platform)}

    modes = ("default", "max-autotune-no-cudagraphs")
    gpu = named("gpu", compile_modes=modes)
    assert list(gpu) == [
        "ours", "torch, compiled", "torch, compiled, max-autotune-no-cudagraphs", "torch, eager",
        "official recipe",
    ]  # fmt: skip
    assert gpu["ours"].settings == {"size": "tiny", "dtype": "bfloat16", "steps": 10}
    assert gpu["torch, eager"].settings["device"] == "cuda"
    assert gpu["torch, eager"].settings["way"] == {"autocast": True, "tf32": False}
    assert named("gpu", dtype="float32")["torch, eager"].settings["way"]["tf32"]
    assert gpu["official recipe"].settings["way"] == {"fused": False}
    cpu = named("cpu")
    assert not cpu["torch, eager"].settings["way"]["tf32"]
    assert cpu["ours"].settings == {"size": "tiny", "dtype": "float32", "steps": 1}


@pytest.mark.parametrize(
    "arguments",
    [["--batch-sizes", "0"], ["--repeats", "0"], ["--peers", "/no/python"]],
)
def test_invalid_input_gives_a_one_sentence_error(arguments, capsys):
    assert main([*TINY, *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--only", "nobody"], ["--largest-at-most", "1"]])
def test_errors_of_contenders_are_reported_in_one_sentence(arguments, capsys):
    assert main([*TINY, *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
