"""Runs with merges whose last map is refitted after every task."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import magmax_jax as mm
from magmax_jax.config import (
    CheckpointConfig,
    ExperimentConfig,
    MergingConfig,
    ModelConfig,
    ScenarioConfig,
    SweepConfig,
    TrainConfig,
)
from magmax_jax.errors import UserError
from magmax_jax.models import from_pretrained
from magmax_jax.refit import Features, Refit
from magmax_jax.registry import MODEL_FAMILIES, REFITS
from magmax_jax.runs.build import build_run
from magmax_jax.runs.checkpoints import Checkpoints
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.estimate import data_size, estimate
from magmax_jax.runs.export import export
from magmax_jax.runs.file_names import SWEEP
from magmax_jax.runs.merge_specs import num_models
from magmax_jax.runs.model_ref import ModelRef
from magmax_jax.runs.model_store import ModelStore
from magmax_jax.runs.progress import NullProgress
from magmax_jax.runs.refits import leaf_at
from magmax_jax.runs.state import shapes
from magmax_jax.runs.sweep import sweep
from magmax_jax.runs.train import run
from magmax_jax.scenarios import build_scenario
from magmax_jax.sharding import one_device
from tests.helpers.compilations import compilations

NAME = "ema+lda@0.7"


@pytest.fixture(scope="module")
def config(tiny_clip) -> ExperimentConfig:
    """Three tasks of eight steps."""
    return ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(
            dataset="digits", num_tasks=3, allow_unequal=True, limit_per_class=12, validation=0.25
        ),
        train=TrainConfig(epochs=2, batch_size=8, learning_rate=1e-3, warmup_fraction=0.1),
        checkpoint=CheckpointConfig(keep_tasks=True),
        merges=("max_magnitude", NAME),
        merging=MergingConfig(scales="0.5,1"),
        eval_batch_size=16,
        seed=2019,
    )


@pytest.fixture(scope="module")
def done(config, tmp_path_factory):
    """The run, its rows, and the compiled functions."""
    out = RunDirectory(tmp_path_factory.mktemp("refits") / "run")
    with compilations() as compiled:
        rows = run(config, out)
    return out, rows, compiled


@pytest.fixture(scope="module")
def parts(config, done):
    scenario = build_scenario(config.scenario, config.seed)
    return build_run(config, scenario, one_device(), run=done[0].path)


@pytest.fixture(scope="module")
def stored(parts, done):
    return ModelStore(done[0].path, parts.theta_0, parts.merges, refits=parts.refits)


def last_checkpoint(out, parts) -> dict:
    with Checkpoints(out.checkpoints) as checkpoints:
        return checkpoints.restore(lambda note: shapes(parts, note["learned"], False)).trees


def features(parts, params, images) -> np.ndarray:
    """Inputs of the projection, computed with the tower's own parts."""
    tower = nnx.merge(parts.tower, params)
    tower.projection = lambda x: x
    box = jnp.tile(jnp.array([0, 0, *images.shape[1:3]]), (len(images), 1))
    return np.asarray(tower(parts.preprocessing.evaluate(jnp.asarray(images), box)))


def test_the_deployed_model_is_the_merge_with_the_map_fitted_to_its_tasks(parts, stored):
    """Computed here from the kept models, with all images of a task at once."""
    refit, source = REFITS["lda"](), parts.scenario.train
    state, before = refit.init(parts.theta_0["projection"]["kernel"].shape[0], 10), None
    for number, task in enumerate(parts.tasks, start=1):
        thetas = [stored.task(t) for t in range(1, number + 1)]
        after = mm.merge(parts.theta_0, thetas, "ema", scale=0.7)
        images = np.stack([source.images[int(i)] for i in task.train])
        new = features(parts, after, images)
        old = new if before is None else features(parts, before, images)
        every = np.ones(len(images), bool)
        labels = source.labels[task.train].astype(np.int32)
        state = refit.learn(jax.jit(refit.observe)(state, Features(old, new, labels, every)))
        before = after
    kernel, shift = refit.fit(state, np.asarray(parts.head))
    model = stored.model(ModelRef.parse(NAME))
    found, bias = leaf_at(model, "projection.kernel"), leaf_at(model, "post_norm.bias")
    np.testing.assert_allclose(found, kernel, rtol=2e-2, atol=2e-3 * np.abs(kernel).max())
    expected = np.asarray(leaf_at(after, "post_norm.bias")) + shift
    np.testing.assert_allclose(bias, expected, rtol=2e-2, atol=2e-3 * np.abs(expected).max())
    for (path, one), other in zip(
        jax.tree_util.tree_leaves_with_path(model), jax.tree.leaves(after), strict=True
    ):
        if "projection" not in str(path) and "post_norm" not in str(path):
            np.testing.assert_array_equal(one, other)


def test_it_is_evaluated_after_every_task_and_the_plain_merge_is_not(config, done):
    out, rows, _ = done
    assert {(row.after_task, row.model, row.scale) for row in rows} == {
        (0, "zero_shot", None),
        *((task, "finetuned", None) for task in (1, 2, 3)),
        *((task, "max_magnitude", 0.5) for task in (1, 2, 3)),
        *((task, "ema+lda", 0.7) for task in (1, 2, 3)),
    }
    assert num_models(config) == 3 and out.is_complete(config, 3)
    assert out.scales().chosen["ema+lda"] == 0.7  # the only scale at which it was refitted
    assert out.scales().published["ema+lda"] == 1.0


def test_it_recognises_the_learned_digits_better_than_the_plain_merge(done):
    rows = {
        row.model: row.accuracy
        for row in done[1]
        if (row.after_task, row.group, row.protocol) == (3, "all", "agnostic")
    }
    assert rows["ema+lda"] > rows["max_magnitude"] + 0.05


def test_the_passes_over_images_compile_once(done):
    compiled = done[2]
    if not any(compiled):
        pytest.skip("this version of JAX does not name what it compiles")
    assert sum("_features" in name for name in compiled) == 1


def test_a_run_interrupted_while_refitting_ends_with_the_same_bits(config, done, parts, tmp_path):
    class Stops(NullProgress):
        passes = 0

        def evaluating(self, name, batches, total):
            self.passes += name == f"images for {NAME}"
            if self.passes == 2:
                raise KeyboardInterrupt
            return batches

    stopped = RunDirectory(tmp_path / "stopped")
    with pytest.raises(KeyboardInterrupt):
        run(config, stopped, Stops())
    assert run(config, stopped) == done[1]
    found, expected = last_checkpoint(stopped, parts), last_checkpoint(done[0], parts)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_sweep_refits_it_to_the_same_accuracy(parts, done, tmp_path):
    shutil.copytree(done[0].path, tmp_path / "run")
    (tmp_path / "run" / SWEEP).unlink()
    out, rows = RunDirectory(tmp_path / "run"), done[1]
    found = sweep(SweepConfig(("ema+lda@0.7", "average+lda"), "0.4"), parts, out)
    on_test = {
        (r.model, r.scale, r.protocol, r.group): r.accuracy for r in found if r.split == "test"
    }
    assert {each[:2] for each in on_test} == {
        ("ema+lda", 0.7), ("average+lda", 0.4), ("average+lda", 1.0),
    }  # fmt: skip
    own = [r for r in rows if (r.model, r.after_task) == ("ema+lda", 3)]
    assert own
    for row in own:
        assert on_test[row.model, row.scale, row.protocol, row.group] == row.accuracy


def test_it_is_exported_as_a_plain_clip(parts, stored, done, tmp_path):
    export(done[0].path, NAME, tmp_path / "model")
    model = from_pretrained(tmp_path / "model")
    pixels = jnp.asarray(np.random.default_rng(4).normal(size=(3, 16, 16, 3)), jnp.float32)
    tower = nnx.merge(parts.tower, stored.model(ModelRef.parse(NAME)))
    np.testing.assert_allclose(model.encode_image(pixels), tower(pixels), rtol=1e-4, atol=1e-4)


def test_fewer_images_are_drawn_with_the_seed(config, parts):
    few = dataclasses.replace(config, merging=MergingConfig(refit_images=5))
    built = build_run(few, parts.scenario, one_device())

    def drawn() -> list[int]:
        batches, count = built.train_images(1)
        assert count == 1
        return [int(i) for batch in batches for i in batch.index[batch.mask]]

    assert len(drawn()) == 5 and drawn() == drawn()
    assert set(drawn()) < set(parts.tasks[0].train.tolist())


def test_a_users_own_refit_is_found_by_name(config, tmp_path):
    def nothing(d, k):
        return jnp.zeros(d)

    def fit(state, head):
        return np.zeros((len(state), len(head)), np.float32), np.asarray(state)

    @REFITS.register("first-class")
    def first_class():
        return Refit(nothing, lambda state, features: state, lambda state: state, fit)

    try:
        own = dataclasses.replace(config, merges=("average+first-class",), merging=MergingConfig())
        rows = run(own, RunDirectory(tmp_path / "own"))
    finally:
        REFITS.unregister("first-class")
    # NaN logits rank below all classes.
    assert {r.accuracy for r in rows if r.model == "average+first-class"} == {0.0}


def test_the_estimate_counts_its_passes_and_its_state(config, done):
    size = data_size(config.scenario, config.seed)
    plain = dataclasses.replace(config, merges=("max_magnitude",), merging=MergingConfig())
    refitted = dataclasses.replace(plain, merges=("max_magnitude", NAME))
    found, without = estimate(refitted, size), estimate(plain, size)
    assert found.flops > without.flops and found.nbytes > without.nbytes
    assert found.evaluated == without.evaluated + 3 * size.test


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"merges": ("ema+none",)}, "'none' is not a refit: choose from lda"),
        ({"merges": ("none+lda",)}, "'none' is not a merge rule"),
        ({"merges": ("slerp+lda",)}, "merges: slerp needs 2 models"),
        ({"merges": ("fisher+lda",)}, "merges: fisher needs every model's Fisher"),
    ],
)
def test_invalid_configurations_are_refused_before_training(config, changes, words, tmp_path):
    out = RunDirectory(tmp_path / "none")
    with pytest.raises(UserError, match=words):
        run(dataclasses.replace(config, **changes), out)
    assert not out.path.exists()


def test_a_model_that_does_not_end_in_a_linear_map_is_refused(config, tmp_path, monkeypatch):
    family = MODEL_FAMILIES["clip"]
    monkeypatch.setitem(MODEL_FAMILIES._values, "clip", family._replace(last_map=None))
    with pytest.raises(UserError, match="does not end in a linear map that a refit could fit"):
        run(config, RunDirectory(tmp_path / "none"))


def test_scales_without_a_refit_do_not_exist(stored):
    with pytest.raises(UserError, match=r"no model 'ema\+lda@0.3': .* or one of .*ema\+lda@0.7"):
        stored.model(ModelRef.parse("ema+lda@0.3"))


def test_a_sweep_without_every_tasks_model_is_refused(config, tmp_path):
    lean = dataclasses.replace(config, checkpoint=CheckpointConfig())
    with pytest.raises(UserError, match=r"ema\+lda is fitted again .* checkpoint.keep_tasks=True"):
        run(lean, RunDirectory(tmp_path / "none"), sweeps=SweepConfig(("ema+lda",)))
