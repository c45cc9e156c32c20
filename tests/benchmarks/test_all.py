"""One command runs all benchmarks."""

import importlib
from pathlib import Path

import pytest
import tyro

import benchmarks.__main__ as every


@pytest.mark.slow
def test_each_writes_its_tables_and_log_even_after_one_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(every.TRIALS, "train", "--size none")
    flags = ["--output", str(tmp_path), "--trial", "--only", "train", "input"]
    assert every.main(flags) == 2
    assert "failed: train (see " in capsys.readouterr().err
    assert "| 32 x 32, cached |" in (tmp_path / "input.md").read_text()
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"input.md", "input.jsonl", "input.log", "train.log"}


def test_an_unknown_name_is_reported_with_the_known_ones(tmp_path, capsys):
    assert every.main(["--output", str(tmp_path / "none"), "--only", "trian"]) == 2
    assert "--only: nothing is named trian, there are: train, eval" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", every.TRIALS)
def test_each_gets_only_the_flags_that_it_takes(name, tmp_path):
    module = importlib.import_module(f"benchmarks.{name.split()[0]}")
    settings = every.Settings(tmp_path, peers=Path("python"), trial=True)
    given = tyro.cli(module.Settings, args=every.flags(name, settings))
    assert given.output.parent == tmp_path and given.repeats == 1
