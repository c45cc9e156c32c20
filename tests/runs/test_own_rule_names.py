"""A run with merges named `module:function`, and every command that uses it."""

import contextlib
import json
import shutil
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from magmax_jax.cli.main import main
from magmax_jax.merging import rules
from magmax_jax.registry import REGULARIZERS, Registry
from magmax_jax.runs.progress import TerminalProgress
from magmax_jax.runs.studies import overhead
from tests.helpers.own_rules import forget, write

MODELS = {"zero_shot", "finetuned", "my_rules:median@0.5", "my_rules:median@1", "my_rules:halves@1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The working directory, with `my_rules.py`."""
    path = tmp_path_factory.mktemp("own")
    write(path, "my_rules")
    with contextlib.chdir(path):
        yield path
    forget("my_rules")


@pytest.fixture(scope="module")
def command(tiny_clip):
    chosen = {
        "--model.source": tiny_clip,
        "--scenario.num-tasks": 2,
        "--scenario.limit-per-class": 3,
        "--scenario.validation": 0.3,
        "--train.epochs": 1,
        "--train.batch-size": 8,
        "--out": "mine",
    }
    flags = [str(word) for pair in chosen.items() for word in pair]
    merges = ["my_rules:median@0.5", "my_rules:median", "my_rules:halves@1"]
    return ["run", "quickstart", *flags, "--merges", *merges]


@pytest.fixture(scope="module")
def finished(folder, command):
    """A finished run."""
    assert main(command) == 0
    return folder / "mine"


@pytest.fixture(autouse=True)
def unknown(finished):
    forget("my_rules")


def rows_of(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def labels(rows) -> set[str]:
    return {r["model"] + ("" if r["scale"] is None else f"@{r['scale']:g}") for r in rows}


def test_rows_and_configuration_have_the_names_and_files_are_safe(finished):
    assert labels(rows_of(finished / "results.jsonl")) == MODELS
    merges = json.loads((finished / "config.json").read_text())["merges"]
    assert merges == ["my_rules:median@0.5", "my_rules:median", "my_rules:halves@1"]
    counts = [file.name for file in (finished / "counts").iterdir()]
    assert "002-my_rules+median@0.5.safetensors" in counts
    assert not any(":" in name for name in counts)


def test_the_same_command_resumes_and_ends_with_the_same_rows(finished, command, folder):
    shutil.copytree(finished, folder / "cut")
    results = folder / "cut" / "results.jsonl"
    whole = results.read_text()
    results.write_text(whole[: len(whole) // 2])
    again = [word if word != "mine" else "cut" for word in command]
    assert main(again) == 0
    assert results.read_text() == whole
    assert main(["run", "--config", "mine/config.json", "--out", "mine"]) == 0


def test_its_models_are_evaluated(finished):
    assert main(["evaluate", "mine:my_rules:median@0.5", "mine:task:1", "--out", "seen"]) == 0
    seen = rows_of(finished.parent / "seen" / "results.jsonl")
    [there] = [
        row["accuracy"]
        for row in rows_of(finished / "results.jsonl")
        if (row["model"], row["scale"], row["after_task"]) == ("my_rules:median", 0.5, 2)
        and (row["protocol"], row["group"]) == ("agnostic", "all")
    ]
    assert {row["model"] for row in seen} == {"mine:my_rules:median@0.5", "mine:task:1"}
    here = [r["accuracy"] for r in seen if (r["protocol"], r["group"]) == ("agnostic", "all")]
    assert here[0] == there


@pytest.mark.slow
def test_its_models_are_exported_and_merged_from(finished, capsys):
    assert main(["export", "mine", "--model", "my_rules:median@0.5", "--output", "exported"]) == 0
    flags = ["--scale", "1", "--output", "merged"]
    sources = ["--pretrained", "mine:zero_shot", "--finetuned", "mine:my_rules:median@0.5"]
    assert main(["merge", *sources, *flags]) == 0
    one, other = (load_file(f"{name}/model.safetensors") for name in ("exported", "merged"))
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=1e-6)
    capsys.readouterr()
    assert main(["export", "mine", "--model", "my_rules:medain", "--output", "no"]) == 2
    assert "contains no model 'my_rules:medain'" in capsys.readouterr().err


@pytest.mark.slow
def test_its_rules_are_swept_and_timed(finished, monkeypatch):
    swept = ["my_rules:halves", "my_rules:ready"]  # the second is computed from the tasks' models
    assert main(["evaluate", "mine", "--sweep.rules", *swept, "--sweep.scales", "0.5,1"]) == 0
    rows = rows_of(finished / "sweep.jsonl")
    assert {f"{name}@{scale}" for name in swept for scale in ("0.5", "1")} <= labels(rows)
    assert main(["report", "mine"]) == 0
    assert (finished / "report" / "data" / "sweep-my-rules-halves.csv").exists()
    few = Registry("merge rule", {}, imports=True)
    few.register("max_magnitude", rules.max_magnitude)
    monkeypatch.setattr(rules, "RULES", few)
    monkeypatch.setattr(overhead, "REGULARIZERS", {"none": REGULARIZERS["none"]})
    assert main(["analyse", "mine", "--only", "overhead"]) == 0
    timed = {record["what"] for record in rows_of(finished / "analysis" / "overhead.jsonl")}
    assert {"my_rules:median: merge", "my_rules:halves: update"} <= timed


def test_tables_name_the_rules_and_import_nothing(finished, capsys):
    assert main(["table", "mine"]) == 0
    assert "sequential, my_rules:median at 0.5" in capsys.readouterr().out
    assert main(["watch", "mine", "--once"]) == 0
    assert "my_rules:median@0.5" in capsys.readouterr().out
    assert "my_rules" not in sys.modules


@pytest.mark.slow
def test_reports_name_them_and_other_models_do_not_need_them(finished):
    assert main(["report", "mine"]) == 0
    page = (finished / "report" / "index.html").read_text()
    assert "my_rules:median@0.5" in page
    files = [file.name for file in (finished / "report").rglob("*")]
    assert not any(":" in name for name in files)
    assert main(["export", "mine", "--output", "plain"]) == 0
    assert "my_rules" not in sys.modules


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        (["my_rules:medain"], "my_rules has no medain (did you mean my_rules:median?"),
        (["my_rules:powered"], "my_rules:powered needs power"),
        (["gone:median@0.5"], "gone:median: there is no module gone, neither installed nor in"),
        (["my_rules:median@"], "merges: 'my_rules:median@' needs a number after the @"),
        (["my_rules:median:0.5"], "'my_rules:median:0.5' is not a merge rule"),
    ],
)
def test_invalid_input_gives_one_sentence_before_anything_is_loaded(merges, message, capsys):
    assert main(["run", "quickstart", "--out", "never", "--merges", *merges]) == 2
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1


def test_a_name_between_colons_is_not_shown_as_an_emoji(capsys):
    TerminalProgress().say("runs/mine:star:median@0.5")
    assert capsys.readouterr().out == "runs/mine:star:median@0.5\n"
