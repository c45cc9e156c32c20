"""`python -m experiments.analyse`: studies from the command line."""

import json

import pytest

from magmax_jax.cli import analyse
from magmax_jax.errors import exit_code


@pytest.fixture(scope="module")
def runs(done, tmp_path_factory):
    """A run that keeps every task's model, and the same run without them."""
    bare = tmp_path_factory.mktemp("runs") / "bare"
    bare.mkdir()
    for name in ("config.json", "results.jsonl", "checkpoints"):
        (bare / name).symlink_to(done.path / name)
    return [done.path, bare]


def main(*arguments) -> int:
    words = [*arguments, "--cache", "None"]
    return exit_code(lambda: analyse.main(list(map(str, words))))


def test_chosen_studies_of_several_runs(runs, capsys):
    command = (*runs, "--only", "norms", "transfer", "--transfer-to", "digits_styles")
    assert main(*command) == 0
    shown = capsys.readouterr().out
    assert "norms: left out" in shown and "--checkpoint.keep-tasks" in shown
    kept, bare = ({p.stem for p in (path / "analysis").iterdir()} for path in runs)
    assert kept == {"norms", "transfer"} and bare == {"transfer"}
    lines = (runs[0] / "analysis" / "transfer.jsonl").read_text().splitlines()
    assert {json.loads(line)["data"] for line in lines} == {"tasks to come", "digits_styles"}
    assert main(*command) == 0
    assert "already exists" in " ".join(capsys.readouterr().out.split())


def test_invalid_input_gives_a_one_sentence_error(runs, tmp_path, capsys):
    for arguments, words in (
        ((), "no RUN is given"),
        ((tmp_path,), "is not a run directory"),
        ((runs[0], "--only", "luck"), "'luck' is not a study: choose from signs"),
        ((runs[1], "--only", "signs"), "does not keep every task's model"),
        ((runs[0], "--only", "norms", "--exclude", "x", "--again"), "'x' matches no parameter"),
        ((runs[0], "--only", "transfer", "--transfer-to", "folder"), "folder"),
    ):
        assert main(*arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and words in error
