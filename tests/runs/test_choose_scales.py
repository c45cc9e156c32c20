"""Scales chosen by the run: which are tried, on which images, and how often."""

import dataclasses
import json

import pytest

from magmax_jax.config import (
    CheckpointConfig,
    ExperimentConfig,
    MergingConfig,
    MethodConfig,
    ModelConfig,
    ScenarioConfig,
    SweepConfig,
    TrainConfig,
)
from magmax_jax.errors import UserError
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.estimate import data_size, estimate
from magmax_jax.runs.merge_specs import num_models
from magmax_jax.runs.progress import NullProgress
from magmax_jax.runs.train import run
from magmax_jax.scenarios import build_scenario

TRIED = {"max_magnitude": (0.3, 0.5, 1.0, 1.5), "average": (0.3, 1.0, 1.5)}
"""Including the published scales, 0.5 and 1, and that of the run's own merge."""


class Passes(NullProgress):
    """Records every pass over images, and the messages."""

    def __init__(self):
        self.passes, self.said = [], []

    def evaluating(self, name, batches, total):
        self.passes.append(name)
        return batches

    def say(self, what):
        self.said.append(what)


@pytest.fixture(scope="module")
def config(tiny_clip):
    return ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(dataset="digits", num_tasks=2, limit_per_class=8, validation=0.25),
        train=TrainConfig(epochs=1, batch_size=8, learning_rate=1e-3, warmup_fraction=0.1),
        merges=("max_magnitude@1", "average"),
        merging=MergingConfig(scales="0.3,1.5"),
        eval_batch_size=32,
    )


@pytest.fixture(scope="module")
def done(config, tmp_path_factory):
    """The run and its passes over images."""
    out, progress = RunDirectory(tmp_path_factory.mktemp("runs") / "chosen"), Passes()
    run(config, out, progress)
    return out, progress.passes


def of_all(rows, split):
    found = [r for r in rows if (r.group, r.protocol, r.split) == ("all", "agnostic", split)]
    return {(r.model, r.scale): r for r in found}


def test_every_scale_is_tried_on_held_out_images_and_two_on_test_images(done, config):
    out, _ = done
    scenario = build_scenario(config.scenario, config.seed)
    held = sum(len(task.validation) for task in scenario.tasks)
    validated, tested = (of_all(out.swept(), split) for split in ("validation", "test"))
    assert set(validated) == {(rule, s) for rule, scales in TRIED.items() for s in scales}
    assert {r.count for r in validated.values()} == {held}
    for rule, published in (("max_magnitude", 0.5), ("average", 1.0)):
        mine = {s: r.accuracy for (name, s), r in validated.items() if name == rule}
        best = min(s for s in mine if mine[s] == max(mine.values()))
        assert {s for name, s in tested if name == rule} == {best, published}
        assert {s for (name, s), r in tested.items() if name == rule and r.chosen} == {best}
    assert out.scales().published == {"max_magnitude": 0.5, "average": 1.0}


def test_evaluations_of_the_run_are_reused(done):
    out, passes = done
    evaluated, tested = (of_all(rows, "test") for rows in (out.rows(), out.swept()))
    assert tested["average", 1.0] == dataclasses.replace(
        next(r for r in out.rows() if r.label == "average@1" and r.after_task == 2
             and (r.group, r.protocol) == ("all", "agnostic")),
        chosen=tested["average", 1.0].chosen,
    )  # fmt: skip
    after = passes[passes.index("finetuned and 2 more") + 2 :]
    assert evaluated and "average@1" not in after
    assert sum(name.startswith("average") for name in after) <= 2


def test_a_run_stopped_before_the_end_resumes_choosing(done, config, tmp_path):
    out, _ = done
    path, before = out.path / "sweep.jsonl", out.swept()
    whole = path.read_text()
    first = [line for line in whole.splitlines() if json.loads(line)["model"] == "max_magnitude"]
    path.write_text("".join(f"{line}\n" for line in first))
    assert not out.is_complete(config, num_models(config)) and not out.has_chosen(config, 2)
    rows, progress = out.rows(), Passes()
    run(config, out, progress)
    assert path.read_text() == whole and out.swept() == before and out.rows() == rows
    assert all(name.startswith("average") for name in progress.passes)
    assert out.is_complete(config, num_models(config))
    again = Passes()
    run(config, out, again)
    assert not again.passes and any("already contains this run" in s for s in map(str, again.said))


def test_an_estimate_counts_the_evaluations(done, config):
    """An upper bound: a chosen scale that the run evaluates anyway is not evaluated again."""
    data = data_size(config.scenario, config.seed)
    assert data.held_out == 20
    plain = dataclasses.replace(config, merging=MergingConfig())
    extra = estimate(config, data).evaluated - estimate(plain, data).evaluated
    assert extra == 20 * sum(map(len, TRIED.values())) + 2 * data.test


def test_the_default_leaves_configurations_unchanged(config):
    plain = dataclasses.replace(config, merging=MergingConfig())
    assert json.loads(plain.to_json())["merging"] == {
        "ties_entries": "tower",
        "average_divisor": "tasks",
    }
    assert json.loads(config.to_json())["merging"]["scales"] == "0.3,1.5"


def test_scales_need_held_out_images(config, tmp_path):
    none = dataclasses.replace(config.scenario, validation=0.0)
    with pytest.raises(UserError, match=r"set scenario\.validation, e\.g\. 0\.1"):
        dataclasses.replace(config, scenario=none)
    with pytest.raises(UserError, match=r"merging\.scales is 'x': write FIRST:LAST:STEP"):
        MergingConfig(scales="x")
    single = dataclasses.replace(config.scenario, limit_per_class=1)
    out = RunDirectory(tmp_path / "single")
    alone = dataclasses.replace(config, scenario=single)
    with pytest.raises(UserError, match=r"merging.scales needs .* every class has a single one"):
        run(alone, out)
    alone = dataclasses.replace(alone, merging=MergingConfig())
    with pytest.raises(UserError, match=r"sweep.test later needs .* every class has a single one"):
        run(alone, out, sweeps=SweepConfig(("average",), test="later"))
    assert not out.path.exists()


def test_joint_training_chooses_nothing(config):
    joint = dataclasses.replace(
        config, method=MethodConfig(joint=True), checkpoint=CheckpointConfig()
    )
    assert RunDirectory("nowhere").has_chosen(joint, 1)
