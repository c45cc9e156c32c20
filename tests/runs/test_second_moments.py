"""Runs that pass Adam's second moments to merges: what they fold, keep, resume and refuse."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from magmax_jax.config import (
    CheckpointConfig,
    ExperimentConfig,
    ModelConfig,
    ScenarioConfig,
    SweepConfig,
    TrainConfig,
)
from magmax_jax.errors import UserError
from magmax_jax.merging import rules, task_vector
from magmax_jax.merging.quantised_rule import quantised
from magmax_jax.merging.task_vectors import tree_bytes
from magmax_jax.runs import learn_task, state
from magmax_jax.runs.build import build_run
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.estimate import data_size, estimate
from magmax_jax.runs.model_store import ModelStore
from magmax_jax.runs.progress import NullProgress
from magmax_jax.runs.studies.accuracies import contribution
from magmax_jax.runs.studies.subject import Subject
from magmax_jax.runs.sweep import check, sweep
from magmax_jax.runs.train import run
from magmax_jax.scenarios import build_scenario
from magmax_jax.sharding import one_device
from magmax_jax.training import second_moments
from tests.helpers.compilations import compilations


@pytest.fixture(scope="module")
def config(tiny_clip) -> ExperimentConfig:
    return ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(dataset="digits", num_tasks=2, limit_per_class=4),
        train=TrainConfig(
            epochs=1,
            batch_size=8,
            learning_rate=1e-3,
            warmup_fraction=0.1,
            freeze=("*.layers.0.*",),
        ),
        checkpoint=CheckpointConfig(keep_tasks=True, every=2),
        merges=("adam_weighted", "max_magnitude"),
        eval_batch_size=32,
    )


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """A finished run, the optimiser's state at the end of each task, and the compilations."""
    seen = []

    def noted(moments):
        share = 1 - 0.999 ** int(optax.tree.get(moments, "count"))
        nu = optax.tree.get(moments, "nu")
        seen.append(jax.tree.map(lambda leaf: np.array(leaf, np.float64) / share, nu))
        return second_moments(moments)

    out = RunDirectory(tmp_path_factory.mktemp("runs") / "finished")
    with pytest.MonkeyPatch.context() as patch, compilations() as compiled:
        patch.setattr(learn_task, "second_moments", noted)
        run(config, out)
    return out, seen, compiled


@pytest.fixture(scope="module")
def parts(config):
    return build_run(config, build_scenario(config.scenario, config.seed), one_device())


@pytest.fixture
def stored(finished, parts):
    return ModelStore(finished[0].path, parts.theta_0, parts.merges)


def same(found, expected) -> None:
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def close(found, expected) -> None:
    def compare(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 * np.abs(b).max())

    jax.tree.map(compare, found, expected)


def test_the_state_is_the_sums_over_the_optimisers_moments(finished, stored, parts):
    _, moments, _ = finished
    taus = [task_vector(stored.task(number), parts.theta_0) for number in (1, 2)]
    found = stored.state("adam_weighted")
    close(found.total, jax.tree.map(np.add, *moments))
    weighted = [jax.tree.map(np.multiply, *pair) for pair in zip(moments, taus, strict=True)]
    close(found.weighted, jax.tree.map(np.add, *weighted))
    assert int(found.count) == 2
    blocks = jax.tree.leaves(found.total["blocks"])
    assert all((leaf[0] == 0).all() for leaf in blocks)  # frozen
    assert any((leaf[1] != 0).any() for leaf in blocks)


def test_tasks_are_kept_with_their_moments(finished, stored, parts):
    _, moments, _ = finished
    for number in (1, 2):
        close(stored.moments(number, parts.merges), moments[number - 1])
    plain = {"max_magnitude": parts.merges["max_magnitude"]}
    assert stored.moments(1, plain) is None


def test_rules_that_the_run_lacks_can_be_swept(finished, stored, parts):
    out, moments, _ = finished
    config = SweepConfig(("adam_selected",), "1")
    rows = sweep(config, parts, out)
    assert {(row.model, row.scale) for row in rows} == {("adam_selected", 1.0)}
    (merge,) = check(config, parts.config).values()
    found = merge.rule.finalize(stored.state("adam_selected", merge))
    taus = [task_vector(stored.task(number), parts.theta_0) for number in (1, 2)]

    def select(tau_1, tau_2, v_1, v_2):
        later = v_2 * np.square(tau_2, dtype=np.float64) >= v_1 * np.square(tau_1, dtype=np.float64)
        return np.where(later, tau_2, tau_1)

    pairs = zip(
        jax.tree.leaves(found), jax.tree.leaves(jax.tree.map(select, *taus, *moments)), strict=True
    )
    differing = sum(int((np.asarray(a) != b).sum()) for a, b in pairs)
    assert differing <= 1e-3 * sum(leaf.size for leaf in jax.tree.leaves(found))  # due to rounding


def test_leaving_out_a_task_uses_the_others_moments(finished, stored, parts):
    out, _, _ = finished
    subject = Subject(parts, stored, out.rows(), stored.learned, NullProgress())
    alone = {
        (record["protocol"], record["group"]): record["accuracy"]
        for record in contribution(subject)
        if (record["rule"], record["left_out"]) == ("adam_weighted", "task 2")
    }
    first = {
        (row.protocol, row.group): row.accuracy
        for row in out.rows()
        if (row.after_task, row.model) == (1, "finetuned")
    }
    assert alone and all(abs(alone[key] - first[key]) <= 1 / 8 for key in alone)  # rounding


def test_the_moments_cost_one_compilation(finished):
    _, _, compiled = finished
    if not any(compiled):
        pytest.skip("this version of JAX does not name what it compiles")
    for name in ("train_step", "corrected_moments"):
        assert sum(name in each for each in compiled) == 1, name


def test_a_run_killed_before_the_tasks_checkpoint_ends_with_the_same_bits(
    finished, config, stored, parts, tmp_path
):
    """`tasks/` then has the last task's moments, but the newest checkpoint is inside that task."""
    save, out = state.save, RunDirectory(tmp_path / "killed")

    def killed(checkpoints, parts, at):
        if at.learned == 2:
            raise KeyboardInterrupt
        save(checkpoints, parts, at)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            run(config, out)
    again = ModelStore(out.path, parts.theta_0, parts.merges)
    assert (again.learned, list(again.tasks)) == (1, [1, 2])
    again = ModelStore(out.path, parts.theta_0, parts.merges)
    assert run(config, out) == finished[0].rows()
    same(again.state("adam_weighted"), stored.state("adam_weighted"))
    for number in (1, 2):
        moments = stored.moments(number, parts.merges)
        same(again.moments(number, parts.merges), moments)


def test_the_estimate_counts_the_bytes(config, parts):
    found = estimate(config, data_size(config.scenario, config.seed)).nbytes
    assert found == state.bytes_needed(parts)
    plain = dataclasses.replace(config, merges=("max_magnitude",))
    largest = state.shapes(parts, 2, training=True)
    sums = tree_bytes(largest["merges"]["adam_weighted"])
    less = estimate(plain, data_size(plain.scenario, plain.seed)).nbytes
    assert found - less == 3 * sums + 2 * tree_bytes(parts.theta_0)


def test_a_run_that_keeps_no_moments_says_so(config, parts, finished, tmp_path):
    moments = "Adam's second moments at every task's end are needed"
    plain = dataclasses.replace(config, merges=("max_magnitude",))
    with pytest.raises(UserError, match=f"sweep.rules: adam_weighted cannot be swept: {moments}"):
        run(plain, RunDirectory(tmp_path / "plain"), sweeps=SweepConfig(("adam_weighted",)))
    lean = dataclasses.replace(config, checkpoint=CheckpointConfig())
    with pytest.raises(UserError, match=r"add it to the merges, or run with checkpoint\.keep_"):
        check(SweepConfig(("adam_selected",)), lean)
    check(SweepConfig(("adam_weighted",)), lean)  # from the run's own state
    with pytest.raises(UserError, match=r"merges: fisher needs every model's Fisher, which a run"):
        run(dataclasses.replace(config, merges=("fisher",)), RunDirectory(tmp_path / "fisher"))
    with pytest.raises(UserError, match=r"checkpoint\.task_bits: one of the merges keeps every"):
        quantised(rules.ties()._replace(needs_fisher=True), 8)
