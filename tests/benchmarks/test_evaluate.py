"""The benchmark of evaluation at its smallest: nothing here is a claim about time."""

import json
import subprocess
import sys

import numpy as np

from benchmarks.device import Device
from benchmarks.evaluate import Settings, main, prepared, whole
from benchmarks.evaluation_table import COLUMNS, Grid, Outcome, row
from benchmarks.evaluation_work import Work, contenders, differing
from benchmarks.turns import ROOT

FIELD = {one.name: one for one in contenders(at_once=2, workers=0)}
TINY = ("--size", "tiny", "--images", "32", "--batch-size", "8", "--repeats", "1", "--tasks", "2")
FEW = (*TINY, "--grid", "2", "40", "--peak-sides", "64", "--workers", "0")


def test_contenders_are_told_in_one_table(tmp_path):
    lonely, output = tmp_path / "python", tmp_path / "results.md"
    lonely.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # without any package
    lonely.chmod(0o755)
    flags = (*FEW, "--peers", str(lonely), "--only", "ours", "official way")
    assert not main([*flags, "--output", str(output)])
    head, _, ours, absent = map(
        cells_of, (line for line in output.read_text().splitlines() if line.startswith("| "))
    )
    assert head == COLUMNS
    assert ours[0] == "ours" and ours[-1] == "equal" and float(ours[1].replace(",", "")) > 0
    assert float(ours[4].removesuffix(", 1 run")) >= 0 and float(ours[5]) == 1
    assert absent[0] == "official way" and absent[1].startswith("absent: ModuleNotFoundError")
    first, limit, row = map(json.loads, output.with_suffix(".jsonl").read_text().splitlines())
    assert "32 images in 2 tasks" in first["environment"]["timed"]
    assert limit["flops"] > 0 and row["name"] == "ours" and len(row["rates"]) == 1
    assert row["grid"][0] > 0 and row["grid"][1] is True and row["facts"]["memory"] > 2**20


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_what_would_take_too_long_is_computed(tmp_path):
    work = Work(tmp_path, tmp_path, 90, 5, 32, "float32", "cpu", (0.0,), (1.0,))
    settings = Settings(grid=(10, 1000), at_most=5)
    found = whole(settings, FIELD["ours"], work, rate=100.0)
    assert found == Grid(100.0, measured=False) and str(found) == "100, computed"


def test_defaults_fit_the_device(tmp_path):
    cpu, gpu = (Device(name, "", 1, 0) for name in ("cpu", "gpu"))
    grid = {"size": "tiny", "grid": (10, 200)}
    timed, whole, _ = prepared(Settings(**grid), tmp_path, tmp_path / "cpu", cpu)
    assert (timed.dtype, timed.batch_size, timed.tasks) == ("float32", 256, 2)
    assert (whole.images, whole.tasks) == (200, 10)
    timed, _, _ = prepared(Settings(**grid), tmp_path, tmp_path / "gpu", gpu)
    assert (timed.dtype, timed.batch_size, timed.images) == ("bfloat16", 512, 5120)
    labels, classes = (np.load(timed.data / f"{name}.npy") for name in ("labels", "classes"))
    shares = [np.isin(labels, own).sum() for own in classes]
    assert shares == [512] * 10  # as many images in every task, each in one


def test_differences_are_told():
    ours = [{"agnostic": [3, 4], "aware": [5, 6]}]
    assert differing(ours, ours * 2, 20) == "equal"
    theirs = [{"agnostic": [3, 4], "aware": [5, 4]}]
    assert differing(ours, theirs, 20) == "up to 2 images of a task, of 20 in all"


def test_mistakes_are_told_in_a_sentence(tmp_path, capsys):
    assert main([*FEW, "--peers", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert "is no python that can be run" in error and error.count("\n") == 1
    assert main([*FEW, "--tasks", "0"]) == 2
    assert "--tasks is 0: choose 1 to 100" in capsys.readouterr().err
    assert main([*FEW, "--repeats", "0"]) == main([*FEW, "--only", "nobody"]) == 2
    error = capsys.readouterr().err
    assert "--repeats: 0 is not positive" in error and "nothing is called nobody" in error


def test_the_parent_takes_no_device():
    program = (
        "from pathlib import Path; from tempfile import mkdtemp\n"
        "from benchmarks.device import Device\n"
        "from benchmarks.evaluate import Settings, prepared\n"
        "from jax._src.xla_bridge import backends_are_initialized\n"
        "work = Path(mkdtemp())\n"
        "prepared(Settings(size='tiny', grid=(1, 100)), work, work, Device('cpu', '', 1, 0))\n"
        "assert not backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_all_are_held_against_ours_if_it_took_part():
    def outcome(name: str, rate: float, right: int) -> Outcome:
        facts = {"memory": 1e9, "right": [{"agnostic": [right], "aware": [5]}]}
        return Outcome(name, [rate], Grid(2.0, measured=True), facts)

    ours, other = outcome("ours", 10.0, 3), outcome("official way", 5.0, 4)
    assert row(other, 1e9, 1e10, ours, 20) == [
        "official way", "5.0", "5.0", "50%", "2.0, 1 run", "2.00", "1.00 GB",
        "up to 1 images of a task, of 20 in all",
    ]  # fmt: skip
    assert row(other, 1e9, 1e10, None, 20)[5:] == ["", "1.00 GB", ""]
