"""`python -m experiments.analyse`: studies by the command line."""

import json

import pytest

from magmax_jax.cli import analyse
from magmax_jax.config import (
    CheckpointConfig,
    ExperimentConfig,
    ModelConfig,
    ScenarioConfig,
    TrainConfig,
)
from magmax_jax.errors import exit_code
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.train import run


@pytest.fixture(scope="module")
def runs(tiny_clip, tmp_path_factory):
    """One run that keeps every task's model, and one that does not."""
    found = []
    for keep in (True, False):
        out = RunDirectory(tmp_path_factory.mktemp("runs") / f"keep-{keep}")
        config = ExperimentConfig(
            model=ModelConfig(str(tiny_clip)),
            scenario=ScenarioConfig(dataset="digits", num_tasks=2, limit_per_class=2),
            train=TrainConfig(epochs=1, batch_size=8, learning_rate=1e-3, warmup_fraction=0.1),
            checkpoint=CheckpointConfig(keep_tasks=keep),
            merges=("max_magnitude",),
            eval_batch_size=32,
        )
        run(config, out)
        found.append(out.path)
    return found


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
    assert "is there already" in capsys.readouterr().out


def test_mistakes_are_one_sentence(runs, tmp_path, capsys):
    for arguments, words in (
        ((), "no RUN is given"),
        ((tmp_path,), "is no run's directory"),
        ((runs[0], "--only", "luck"), "'luck' is no study: choose from signs"),
        ((runs[1], "--only", "signs"), "does not keep every task's model"),
        ((runs[0], "--only", "norms", "--exclude", "x", "--again"), "'x' matches no parameter"),
        ((runs[0], "--only", "transfer", "--transfer-to", "folder"), "folder"),
    ):
        assert main(*arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and words in error
