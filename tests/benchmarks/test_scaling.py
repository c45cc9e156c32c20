"""The benchmark's tables, and on what it measures."""

import json
import math

from benchmarks.collectives import Collective
from benchmarks.cost_model import ACCELERATORS, Assumptions, compute_seconds
from benchmarks.device import Device
from benchmarks.scaling import Settings, contestant, main, too_few
from benchmarks.scaling_rows import Program, collective_rows, prediction_rows, timing_rows
from benchmarks.shapes import SIZES
from benchmarks.turns import Contestant


def timed(data: int, seconds: list[float], failure: str | None = None) -> Contestant:
    settings = {"data": data, "fsdp": 1, "batch_size": 4}
    facts = {"device": "cpu", "platform": "cpu"}
    return Contestant(f"{data} x 1", [], settings, None, facts, seconds, failure)


def test_efficiency_is_told_of_devices_and_of_the_cores_they_share():
    rows = timing_rows([timed(1, [0.1, 0.1, 9.0]), timed(2, [0.25]), timed(4, [], "too many")])
    assert rows == [
        ["1 x 1", "1", "100.0", "40.0", "1.00", "1.00"],
        ["2 x 1", "2", "250.0", "32.0", "0.40", "0.80"],
        ["4 x 1", "4", "", "", "", "too many"],
    ]


def test_predictions_prefer_the_accelerators_own_program():
    cpu, tpu = (
        Program("vit-b16", "training", compiler, (8, 1), (Collective("all-reduce", nbytes, 8, 1),))
        for compiler, nbytes in (("cpu", 0), ("TPU v5 lite", 10**12))
    )
    assert collective_rows([cpu])[0][:5] == ["training, vit-b16", "cpu", "8 x 1", "1", "8"]
    for accelerator in ACCELERATORS:
        [row] = prediction_rows(accelerator, [tpu, cpu], [8], [32], Assumptions())
        slow = accelerator.name == "TPU v5e"
        assert (float(row[4]) > 1000) == slow
        assert math.isclose(float(row[3]), 1e3 * compute_seconds(
            SIZES["vit-b16"].model, 32, accelerator, Assumptions()), abs_tol=0.1)  # fmt: skip


def test_it_tells_what_it_measured_read_and_predicted(tmp_path, monkeypatch):
    found = (Collective("all-reduce", 344_000_000, 8, 1, "transpose(jvp())"),)
    made = [Program("vit-b16", "training", "cpu", (8, 1), found)]
    monkeypatch.setattr("benchmarks.scaling.programs", lambda settings, output: made)
    output = tmp_path / "scaling.md"
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # it compiles faster
    flags = ["--size", "tiny", "--mesh", "1x2", "--repeats", "2", "--batch-size", "1", "--cpu"]
    assert main([*flags, "--output", str(output)]) == 0
    text = output.read_text()
    for start in ("1 x 1 ", "1 x 2 ", "training, vit-b16", "vit-b16, 128 images"):
        assert f"| {start}" in text
    assert text.count("predicted, not measured") == len(ACCELERATORS)
    rows = [json.loads(line) for line in output.with_suffix(".jsonl").read_text().splitlines()]
    seconds = [row["seconds"] for row in rows if "seconds" in row]
    assert len(seconds) == 4 and min(seconds) > 0


def test_a_mesh_that_is_none_is_refused(capsys):
    assert main(["--mesh", "2"]) == 2
    assert "'2' is not DATAxFSDP, as 2x4" in capsys.readouterr().err


def test_where_accelerators_are_too_few_the_table_says_so():
    one, four = (Device("gpu", "H200", n, 0) for n in (1, 4))
    assert too_few(one, 4) == ": meshes need 4 devices, and of H200 there are 1"
    assert too_few(four, 4) == too_few(Device("cpu", "cpu", 1, 0), 4) == ""


def test_flags_of_xla_that_are_there_stay(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=there")
    flags = contestant(Settings(), (2, 4), cpu=True).environment["XLA_FLAGS"].split()
    assert flags == ["--xla_dump_to=there", "--xla_force_host_platform_device_count=8"]
