"""Runs that are not evaluated after every task: their rows, resuming, and end."""

import dataclasses

import pytest

from magmax_jax.config import ExperimentConfig, ModelConfig, ScenarioConfig, TrainConfig
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.merge_specs import num_models
from magmax_jax.runs.progress import NullProgress
from magmax_jax.runs.train import run

TASKS = 5


@pytest.fixture(scope="module")
def config(tiny_clip):
    return ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(dataset="digits", num_tasks=TASKS, limit_per_class=4),
        train=TrainConfig(epochs=1, batch_size=8, learning_rate=1e-3, warmup_fraction=0.1),
        merges=("max_magnitude", "max_magnitude@1", "average"),
        eval_batch_size=32,
    )


class Passes(NullProgress):
    """Records every pass over the test images, and may end the run when a task begins."""

    def __init__(self, ends_at: str = ""):
        self.passes, self.ends_at = [], ends_at

    def evaluating(self, name, batches, total):
        self.passes.append(name)
        return batches

    def training(self, name, steps, images, first=0):
        if self.ends_at and name.startswith(self.ends_at):
            raise InterruptedError(name)
        return super().training(name, steps, images, first)


@pytest.fixture(scope="module")
def every(config, tmp_path_factory):
    """The rows of a run that is evaluated after every task, and its passes over the images."""
    progress = Passes()
    rows = run(config, RunDirectory(tmp_path_factory.mktemp("runs") / "every"), progress)
    return rows, progress.passes


def evaluations(passes):
    return [name for name in passes if name != "importances"]  # on training images


def test_all_models_of_a_task_share_a_pass(every):
    _, passes = every
    assert evaluations(passes) == ["zero_shot"] + ["finetuned and 3 more"] * TASKS


@pytest.mark.parametrize(("evaluate", "after"), [("last", [5]), (2, [2, 4, 5])])
def test_rows_cover_the_requested_tasks(config, every, tmp_path, evaluate, after):
    rows, _ = every
    out, progress = RunDirectory(tmp_path / "run"), Passes()
    chosen = dataclasses.replace(config, evaluate=evaluate)
    assert run(chosen, out, progress) == [row for row in rows if row.after_task in (0, *after)]
    assert len(evaluations(progress.passes)) == 1 + len(after)
    assert out.is_complete(chosen, num_models(chosen))
    assert len(list(out.counts.iterdir())) == 1 + num_models(chosen) * len(after)
    again = Passes()
    run(chosen, out, again)  # only shown, not repeated
    assert not again.passes


def test_a_run_resumed_between_evaluations_gives_the_same_result(config, every, tmp_path):
    rows, _ = every
    out, chosen = RunDirectory(tmp_path / "run"), dataclasses.replace(config, evaluate=2)
    with pytest.raises(InterruptedError):
        run(chosen, out, Passes(ends_at="task 4"))
    assert {row.after_task for row in out.rows()} == {0, 2}
    assert not out.is_complete(chosen, num_models(chosen))
    progress = Passes()
    found = run(chosen, out, progress)
    assert found == [row for row in rows if row.after_task in (0, 2, 4, 5)]
    assert len(evaluations(progress.passes)) == 2
    out.keep(row for row in found if row.model != "average")  # rows are lost
    assert sorted(map(str, run(chosen, out))) == sorted(map(str, found))
