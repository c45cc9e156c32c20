"""All benchmarks by one command."""

import importlib
import shlex

import pytest
import tyro

import benchmarks.__main__ as every


def feeding() -> every.Benchmark:
    (found,) = [benchmark for benchmark in every.BENCHMARKS if benchmark.name == "feeding"]
    return found


def test_each_writes_its_tables_and_its_log(tmp_path, capsys):
    out = tmp_path / "results"
    assert every.main(["--output", str(out), "--trial", "--only", "feed*"]) == 0
    assert "two products on the device" in (out / "feeding.md").read_text()
    assert {file.name for file in out.iterdir()} == {"feeding.md", "feeding.jsonl", "feeding.log"}


def test_the_others_go_on_after_one_that_fails(tmp_path, monkeypatch, capsys):
    bad = every.Benchmark(("train",), True, "--size none")
    monkeypatch.setattr(every, "BENCHMARKS", [bad, feeding()])
    assert every.main(["--output", str(tmp_path), "--trial"]) == 2
    assert "failed: train (see " in capsys.readouterr().err
    assert (tmp_path / "feeding.md").exists()


def test_a_name_that_there_is_not_is_told_with_those_that_there_are(tmp_path, capsys):
    assert every.main(["--output", str(tmp_path / "none"), "--only", "trian"]) == 2
    assert "--only: nothing is called trian, there are: train, levers" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("benchmark", every.BENCHMARKS, ids=lambda benchmark: benchmark.name)
def test_flags_are_those_that_each_takes(benchmark, tmp_path):
    module = importlib.import_module(f"benchmarks.{benchmark.command[0]}")
    flags = [
        *benchmark.command[1:],
        "--output",
        str(tmp_path / "x.md"),
        *shlex.split(benchmark.trial),
    ]
    flags += ["--peers", "python"] if benchmark.peers else []
    tyro.cli(module.Settings, args=flags)
