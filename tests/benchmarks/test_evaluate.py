"""The evaluation benchmark at its smallest: no claims about time."""

import json
import sys

import numpy as np
import pytest

from benchmarks.contenders import Served
from benchmarks.evaluate import Settings, differing, fitted, main, rows, work
from benchmarks.workloads import SIZES
from tests.benchmarks.test_train import cells

TINY = ("--size", "tiny", "--images", "32", "--batch-size", "8", "--repeats", "1", "--tasks", "2")
FEW = (*TINY, "--peak-sides", "64", "--workers", "0")


@pytest.mark.slow
def test_contenders_are_reported_in_one_table(tmp_path):
    lonely, output = tmp_path / "python", tmp_path / "results.md"
    lonely.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # without any package
    lonely.chmod(0o755)
    flags = (*FEW, "--peers", str(lonely), "--only", "ours", "official way")
    assert not main([*flags, "--output", str(output)])
    _, ours, absent = cells(output.read_text())
    assert ours[0] == "ours" and ours[-1] == "equal" and float(ours[1].replace(",", "")) > 0
    assert float(ours[2]) > 0 and float(ours[4]) == 1
    assert absent[0] == "official way" and absent[1].startswith("absent: ModuleNotFoundError")
    first, *records = map(json.loads, output.with_suffix(".jsonl").read_text().splitlines())
    assert "32 images in 2 tasks" in first["environment"]["timed"]
    calls = {row["contender"]: row for row in records if "repeat" in row}
    assert calls.keys() == {"ours", "matmul"} and calls["matmul"]["flops"] > 0
    (end,) = (row for row in records if row["contender"] == "ours" and "outcome" in row)
    assert end["outcome"] == "ok" and end["facts"]["memory"] > 2**20


def test_defaults_fit_the_device(tmp_path):
    cpu = fitted(Settings(size="tiny"), "cpu")
    assert (cpu.dtype, cpu.batch_size, cpu.tasks) == ("float32", 256, 2)
    gpu = fitted(Settings(size="tiny"), "gpu")
    assert (gpu.dtype, gpu.batch_size, gpu.images) == ("bfloat16", 512, 5120)
    given = work(gpu, tmp_path, tmp_path, "gpu")
    assert given["platform"] == "gpu" and given["dtype"] == "bfloat16"
    labels, classes, head = (
        np.load(tmp_path / f"{name}.npy") for name in ("labels", "classes", "head")
    )
    shares = [np.isin(labels, own).sum() for own in classes]
    assert shares == [512] * 10  # equally many images in every task, each in exactly one
    assert head.shape == (SIZES["tiny"].projection, 100)


def test_differences_are_reported():
    ours = [{"agnostic": [3, 4], "aware": [5, 6]}]
    assert differing(ours, ours * 2, 20) == "equal"
    theirs = [{"agnostic": [3, 4], "aware": [5, 4]}]
    assert differing(ours, theirs, 20) == "up to 2 images of a task, of 20 in all"


@pytest.mark.slow
def test_invalid_input_gives_a_one_sentence_error(tmp_path, capsys):
    assert main([*FEW, "--peers", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert "is not a Python that can be run" in error and error.count("\n") == 1
    assert main([*FEW, "--tasks", "101"]) == 2
    assert "--tasks is 101: choose 1 to 100" in capsys.readouterr().err
    assert main([*FEW, "--repeats", "0"]) == main([*FEW, "--only", "nobody"]) == 2
    error = capsys.readouterr().err
    assert "--repeats: 0 is not positive" in error and "nothing is named nobody" in error


def test_all_are_compared_with_ours_if_it_took_part():
    def ended(name: str, seconds: float, right: int) -> Served:
        one = Served(name=name, function="", settings={}, labels={"models": 1})
        one.calls.append({"seconds": seconds})
        one.facts |= {"memory": 1e9, "right": [{"agnostic": [right], "aware": [5]}]}
        return one

    ours, other = ended("ours", 2.0, 3), ended("official way", 4.0, 4)
    _, _, row = cells(rows([ours, other], 20, 1e9, 1e10))
    assert row == [
        "official way", "5.0", "4", "50%", "2.00", "1.00 GB",
        "up to 1 images of a task, of 20 in all",
    ]  # fmt: skip
    _, row = cells(rows([other], 20, 1e9, 1e10))
    assert row[4:] == ["", "1.00 GB", ""]
