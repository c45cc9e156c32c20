"""The scaling benchmark's tables and the devices that it measures on."""

import json

import pytest

from benchmarks.contenders import Served
from benchmarks.scaling import Settings, contender, main, moved_rows, timing_table
from tests.benchmarks.test_train import cells

MOVED = {"kind": "all-reduce", "nbytes": 344_000_000, "group": 8, "times": 1, "where": ""}
PROGRAM = {"name": "training", "size": "vit-b16", "compiler": "cpu", "collectives": [MOVED]}


def timed(data: int, *seconds: float, failure: str | None = None) -> Served:
    one = contender(Settings(), (data, 1), virtual=True)
    one.calls += [{"seconds": taken} for taken in seconds]
    one.facts["platform"], one.failure = "cpu", failure
    return one


def test_efficiency_is_reported_per_device_and_per_shared_core():
    field = [timed(1, 0.1, 0.1, 9.0), timed(2, 0.25), timed(4, failure="too many")]
    _, *found = cells(timing_table(field))
    assert found == [
        ["1 x 1", "1", "100.0", "40.0", "1.00", "1.00"],
        ["2 x 1", "2", "250.0", "32.0", "0.40", "0.80"],
        ["4 x 1", "4", "too many", "", "", ""],
    ]
    field[0].failure, field[0].calls = "failed", []
    assert cells(timing_table(field))[2][4] == "nan"


def test_traffic_of_programs_is_reported_by_kind():
    (row,) = moved_rows("8 x 1", PROGRAM)
    assert row == [
        "training, vit-b16", "cpu", "8 x 1", "1", "8", "344.00", "602.00", "all-reduce",
    ]  # fmt: skip
    (row,) = moved_rows("8 x 1", PROGRAM | {"collectives": [], "accumulate": 2})
    assert row[0] == "training, in 2 parts, vit-b16" and row[-1] == "none"


@pytest.mark.slow
def test_it_reports_what_it_measured_and_read(tmp_path, monkeypatch):
    output = tmp_path / "scaling.md"
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # it compiles faster
    flags = ["--size", "tiny", "--mesh", "1x2", "--repeats", "2", "--batch-size", "1"]
    more = ["--compiled", "tiny", "--devices", "2", "--output", str(output)]
    assert main([*flags, *more]) == 0
    names = {row[0] for row in cells(output.read_text())}
    assert {"1 x 1", "1 x 2"} <= names
    programs = ("training", "training, in 2 parts", "evaluation", "fold")
    assert {f"{program}, tiny" for program in programs} <= names
    rows = [json.loads(line) for line in output.with_suffix(".jsonl").read_text().splitlines()]
    seconds = [row["seconds"] for row in rows if "seconds" in row]
    assert len(seconds) == 4 and min(seconds) > 0
    assert sum("collectives" in row for row in rows) == 8


def test_an_invalid_mesh_is_refused(capsys):
    assert main(["--mesh", "2"]) == 2
    assert "'2' is not DATAxFSDP, e.g. 2x4" in capsys.readouterr().err


def test_existing_xla_flags_are_kept(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=there")
    flags = contender(Settings(), (2, 4), virtual=True).variables["XLA_FLAGS"].split()
    assert flags == ["--xla_dump_to=there", "--xla_force_host_platform_device_count=8"]
