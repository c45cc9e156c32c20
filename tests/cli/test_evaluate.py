"""`python -m experiments.evaluate`: any checkpoint, any scenario."""

import json

from magmax_jax.cli import evaluate
from magmax_jax.errors import exit_code
from magmax_jax.evaluation.rows import read_rows
from magmax_jax.runs.export import export


def main(*arguments) -> int:
    words = [*arguments, "--cache", "None"]
    return exit_code(lambda: evaluate.main(list(map(str, words))))


def facts(row):
    return row.after_task, row.protocol, row.group, row.accuracy, row.top5, row.count


def test_a_runs_models_are_found_as_the_run_found_them(done, tmp_path, capsys):
    """In a directory of transformers', too, on the scenario that flags tell."""
    names = {"zero_shot": (0, None), "task:2": (2, None), "finetuned": (5, None)}
    sources = [f"{done.path}:{name}" for name in (*names, "max_magnitude@0.5")]
    assert main(*sources, "--out", tmp_path / "out", "--per-class") == 0
    found = read_rows(tmp_path / "out" / "results.jsonl")
    expected = [
        [facts(r) for r in done.rows() if (r.after_task, r.model) == key]
        for key in [(0, "zero_shot"), (2, "finetuned"), (5, "finetuned"), (5, "max_magnitude")]
    ]
    assert [[facts(r) for r in found if r.model == source] for source in sources] == expected
    assert len(list((tmp_path / "out" / "counts").iterdir())) == len(sources)
    shown = capsys.readouterr().out
    assert "class-incremental, 60 test images" in shown and "task 5" in shown

    export(done.path, "max_magnitude@0.5", tmp_path / "merged")
    flags = "--scenario.dataset digits --scenario.num-tasks 5 --scenario.limit-per-class 6"
    command = [tmp_path / "merged", *flags.split(), "--scenario.order", "random", "--seed", 3]
    assert main(*command, "--out", tmp_path / "again") == 0
    again = read_rows(tmp_path / "again" / "results.jsonl")
    assert [facts(r)[1:] for r in again] == [fact[1:] for fact in expected[-1]]


def test_a_finished_run_is_swept(done, capsys):
    command = (done.path, "--sweep.rules", "max_magnitude", "--sweep.scales", "0.25,0.5")
    assert main(*command) == 0
    assert "is best on 20 validation images" in capsys.readouterr().out
    lines = (done.path / "sweep.jsonl").read_text().splitlines()
    assert {json.loads(line)["scale"] for line in lines} == {0.25, 0.5}


def test_mistakes_are_one_sentence(done, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for arguments, words in (
        ((), "no SOURCE is given"),
        ((f"{done.path}:best",), "holds no model 'best': choose finetuned"),
        ((f"{done.path}:task:9",), "holds no model of task 9"),
        ((tmp_path, "--scenario.dataset", "digits"), "holds no weights"),
        ((done.path, "--scenario.num-tasks", 11), "num_tasks=11 is more than that"),
        ((done.path, "--out", tmp_path / "full"), "exists already"),
        ((done.path, done.path, "--sweep.rules", "average"), "needs one RUN"),
        ((done.path, "--sweep.rules", "average", "--seed", 1), "leave out --scenario"),
        ((done.path, "--sweep.rules", "average", "--per-class"), "--out and --per-class"),
        ((done.path, "--image-size", 24), "was trained at its own size"),
        ((done.path, tmp_path / "typo"), "there is no such directory"),
    ):
        assert main(*arguments) == 2
        error = capsys.readouterr().err
        assert words in error and error.startswith("error: ")
