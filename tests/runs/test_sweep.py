"""Rules at many scales: evaluated as in runs, chosen on images that were not trained on."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
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
from magmax_jax.evaluation.rows import Row
from magmax_jax.evaluation.scales import choose, describe
from magmax_jax.merging import merged, task_vector
from magmax_jax.merging.rule import Counted
from magmax_jax.runs.build import build_run
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.model_store import ModelStore
from magmax_jax.runs.sweep import check, sweep
from magmax_jax.runs.train import run
from magmax_jax.scenarios import build_scenario
from magmax_jax.sharding import one_device

SWEEP = SweepConfig(("max_magnitude", "average"), "0.5,1", at_once=2)


@pytest.fixture(scope="module")
def config(tiny_clip):
    return ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(dataset="digits", num_tasks=2, limit_per_class=8, validation=0.25),
        train=TrainConfig(epochs=1, batch_size=8, learning_rate=1e-3, warmup_fraction=0.1),
        checkpoint=CheckpointConfig(keep_tasks=True),
        merges=("max_magnitude@0.5", "average@1"),
        eval_batch_size=32,
    )


@pytest.fixture(scope="module")
def swept(config, tmp_path_factory):
    out = RunDirectory(tmp_path_factory.mktemp("runs") / "swept")
    run(config, out, sweeps=SWEEP)
    return out


@pytest.fixture(scope="module")
def parts(config):
    return build_run(config, build_scenario(config.scenario, config.seed), one_device())


def test_a_sweep_reproduces_the_runs_accuracies(swept):
    found = {(r.label, r.protocol, r.group): r for r in swept.swept() if r.split == "test"}
    merged = [r for r in swept.rows() if r.after_task == 2 and r.scale is not None]
    assert merged
    for row in merged:
        same = found[row.label, row.protocol, row.group]
        assert (same.accuracy, same.top5, same.count) == (row.accuracy, row.top5, row.count)


def test_held_out_images_are_used_for_validation_and_choose_the_scale(swept, config):
    rows = swept.swept()
    scenario = build_scenario(config.scenario, config.seed)
    held = sum(len(task.validation) for task in scenario.tasks)
    everything = {(r.model, r.scale, r.split) for r in rows}
    assert everything == {
        (m, s, split) for m in SWEEP.rules for s in (0.5, 1.0) for split in ("test", "validation")
    }
    for model in SWEEP.rules:
        overall = [r for r in rows if (r.model, r.group, r.protocol) == (model, "all", "agnostic")]
        validated = [r for r in overall if r.split == "validation"]
        assert {r.count for r in validated} == {held} and all(r.chosen is None for r in validated)
        best = max(validated, key=lambda r: (r.accuracy, -r.scale)).scale
        chosen = {r.scale for r in rows if r.model == model and r.chosen == "validation"}
        assert chosen == {best}
    assert all(f"{held} validation images" in line for line in describe(rows, apart=False))


def test_swept_scales_are_not_evaluated_again(swept, parts, monkeypatch):
    before = swept.swept()
    more = dataclasses.replace(SWEEP, scales="0.5,1,1.5", at_once=1)
    calls = []
    trial = parts.test._replace(
        evaluate=lambda *args: calls.append(args) or parts.test.evaluate(*args)
    )
    rows = sweep(more, dataclasses.replace(parts, test=trial), swept)
    assert len(calls) == len(SWEEP.rules)  # the one new scale
    again = {(r.label, r.split, r.protocol, r.group): r.accuracy for r in rows}
    for r in before:
        assert again[r.label, r.split, r.protocol, r.group] == r.accuracy
    assert len(rows) == len(before) * 3 // 2 and rows == swept.swept()


def test_test_images_are_evaluated_only_after_scales_are_chosen(swept, parts, tmp_path):
    """First no test images; then only the chosen and the published scale."""
    out = RunDirectory(tmp_path / "late")
    out.path.mkdir()
    for name in ("checkpoints", "tasks"):
        (out.path / name).symlink_to(swept.path / name)
    later = SweepConfig(("max_magnitude", "emr"), "0.2,0.8", test="later")

    def evaluated(rows):
        return {(r.model, r.scale, r.split) for r in rows}

    validated = {("max_magnitude", s, "validation") for s in (0.2, 0.8, 0.5)}
    validated |= {("emr", s, "validation") for s in (0.2, 0.8, 1.0)}
    rows = sweep(later, parts, out)
    assert evaluated(rows) == validated and not any(r.chosen for r in rows)
    assert [line.rpartition(",")[2] for line in describe(rows, False)] == [" agnostic)"] * 2
    rows = sweep(dataclasses.replace(later, test="chosen"), parts, out)
    best = {r.model: r.scale for r in rows if r.chosen}
    assert set(best) == set(later.rules)
    expected = {(rule, best[rule], "test") for rule in best}
    expected |= {("max_magnitude", 0.5, "test"), ("emr", 1.0, "test")}
    assert evaluated(rows) == validated | expected


def test_an_impossible_sweep_is_refused_before_training(config, tmp_path):
    out = RunDirectory(tmp_path / "none")
    lean = dataclasses.replace(config, checkpoint=CheckpointConfig())
    joint = dataclasses.replace(lean, method=MethodConfig(joint=True))
    unseen = dataclasses.replace(config, scenario=ScenarioConfig(dataset="digits", num_tasks=2))
    with pytest.raises(UserError, match="the run holds out no images for choosing a scale"):
        run(unseen, out, sweeps=SweepConfig(("average",), test="chosen"))
    for wrong, rule, words in (
        (config, "best", "'best' is not a merge rule"),
        (config, "fisher", "fisher needs every task's Fisher, which a run does not keep"),
        (config, "average@one", "needs a number after the @"),
        (config, "weighted_average", "needs weights"),
        (lean, "ties", "add it to the merges, or run with checkpoint.keep_tasks=True"),
        (joint, "average", "joint training merges nothing"),
    ):
        with pytest.raises(UserError, match=words):
            run(wrong, out, sweeps=SweepConfig((rule,)))
    assert not out.path.exists()


def test_the_rule_that_tasks_start_from_is_swept_if_it_is_named(config):
    """The run keeps its state."""
    few = dataclasses.replace(
        config, method=MethodConfig(start="ema@0.7"), checkpoint=CheckpointConfig()
    )
    for name in ("ema", "average"):
        assert list(check(SweepConfig(rules=(name,)), few)) == [name]


def test_swept_rules_use_the_merge_configuration(swept, config, parts):
    """Averages divide by two, also if the run's own merges have none."""
    halved = dataclasses.replace(
        config, merges=("max_magnitude",), merging=MergingConfig(average_divisor="two")
    )
    rules = check(SweepConfig(("average",)), halved)
    (theta,) = jax.tree.leaves(
        merged(rules["average"].rule, Counted({"w": jnp.ones(1)}, 5), {"w": jnp.zeros(1)}, 1.0)
    )
    assert theta.item() == 0.5


def test_tasks_ahead_of_the_checkpoint_are_not_merged(swept, parts, tmp_path):
    """A kill may happen between saving a task's model and the checkpoint that includes it."""
    ahead = ModelStore(swept.path, parts.theta_0, parts.merges)
    behind = type("Behind", (ModelStore,), {"learned": 1})(swept.path, parts.theta_0, {})
    assert list(ahead.tasks) == [1, 2]
    (merge,) = check(SweepConfig(("task_arithmetic",)), parts.config).values()
    one = behind.state("task_arithmetic", merge)
    expected = task_vector(ahead.task(1), parts.theta_0)
    jax.tree.map(np.testing.assert_array_equal, one, expected)


def test_scales_for_several_data_sets_are_chosen_by_the_mean():
    def row(scale, group, accuracy, count):
        return Row(2, "average", scale, "aware", group, accuracy, count, None, "validation")

    small = [row(0.5, "all", 0.9, 110), row(0.5, "big", 0.95, 100), row(0.5, "tiny", 0.1, 10)]
    large = [row(1.0, "all", 0.8, 110), row(1.0, "big", 0.8, 100), row(1.0, "tiny", 0.8, 10)]
    tested = [dataclasses.replace(r, split="test") for r in small + large]
    marked = choose(small + large + tested, apart=True)
    assert {r.scale for r in marked if r.chosen} == {1.0}
    assert "scale 1 is best on 110 validation images (80.0%" in next(describe(marked, True))


def test_a_rule_that_the_run_lacks_is_computed_from_its_tasks(swept, parts, tmp_path):
    rows = sweep(SweepConfig(("ties",), "0.5", at_once=1), parts, swept)
    assert {r.split for r in rows if r.model == "ties"} == {"test", "validation"}
    lonely = RunDirectory(tmp_path / "lonely")
    (lonely.path / "checkpoints").parent.mkdir()
    (lonely.path / "checkpoints").symlink_to(swept.checkpoints)
    with pytest.raises(UserError, match="keeps no state of ties and not every task's model"):
        sweep(SweepConfig(("ties",), "0.5"), parts, lonely)
    assert not (lonely.path / "sweep.jsonl").exists()


def test_scales_are_not_chosen_on_test_images():
    def row(scale, accuracy, split):
        return Row(1, "average", scale, "agnostic", "all", accuracy, 10, None, split)

    tested = [row(0.5, 0.1, "test"), row(1.0, 0.9, "test")]
    assert all(r.chosen is None for r in choose(tested, apart=False))
    assert "picked on test images, so do not report it" in next(describe(tested, apart=False))
    validated = [row(0.5, 0.4, "validation"), row(1.0, 0.4, "validation")]
    marked = choose(tested + validated, apart=False)
    assert [r.scale for r in marked if r.chosen] == [0.5]  # the smaller of two equally good ones
    assert all(r.chosen is None for r in choose(marked[:2], apart=False))
    negated = [dataclasses.replace(r, scale=-r.scale) for r in reversed(marked)]
    assert [r.scale for r in choose(negated, apart=False) if r.chosen] == [-0.5]


@pytest.mark.parametrize(
    ("scales", "values"),
    [
        ("0.1:1.5:0.1", [i / 10 for i in range(1, 16)]),
        ("1:0.5:-0.25", [1, 0.75, 0.5]),
        ("0.3,1", [0.3, 1]),
        ("0.5", [0.5]),
        ("-1:0:0.25", [-1, -0.75, -0.5, -0.25, 0]),
        ("-1,-0.5", [-1, -0.5]),
    ],
)
def test_scales_are_written_as_ranges_or_lists(scales, values):
    np.testing.assert_allclose(SweepConfig(scales=scales).values, values, rtol=0, atol=0)


@pytest.mark.parametrize("scales", ["", "a", "0:1:0", "1:0:0.1", "0.1:0.2", "nan", "0:inf:1"])
def test_invalid_scales_are_refused(scales):
    with pytest.raises(UserError, match="write FIRST:LAST:STEP"):
        SweepConfig(scales=scales)


def test_rows_state_their_origin(swept):
    lines = (swept.path / "sweep.jsonl").read_text().splitlines()
    assert {json.loads(line)["split"] for line in lines} == {"test", "validation"}
