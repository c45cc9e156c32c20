"""Every penalty and every consolidation against a plain implementation of its formula."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from magmax_jax.config import MethodConfig, TrainConfig
from magmax_jax.data import Preprocessing
from magmax_jax.sharding import one_device
from magmax_jax.training import build_regularizer, fine_tune, make_trainer
from magmax_jax.training.regularizers import (
    Anchor,
    Teacher,
    ewc,
    l2_sp,
    none,
)
from tests.training.cases import batches_of, flat, forward, nearby, task

CONFIGS = {
    "none": MethodConfig(),
    "ewc": MethodConfig(regularizer="ewc"),
    "lwf": MethodConfig(regularizer="lwf"),
    "l2_sp": MethodConfig(regularizer="l2_sp", strength=0.1),
}


def after_one_task(theta_0) -> dict:
    """Memories as after task 0, except that EWC's numbers are random."""
    theta_1 = nearby(theta_0, 6)
    return {
        "ewc": Anchor(theta_1, jax.tree.map(jnp.square, nearby(theta_0, 7))),
        "lwf": Teacher(theta_1, task(0).classes),
        "l2_sp": theta_0,
    }


@pytest.fixture(scope="module")
def built(tower):
    """A function of a name and optionally a strength: the regularizer and its trainer."""

    @cache
    def build(name: str, strength: float | None = None):
        config = CONFIGS[name]
        if strength is not None:
            config = dataclasses.replace(config, strength=strength)
        recipe = TrainConfig(crop_scale=(1.0, 1.0), learning_rate=1e-3)
        regularizer = build_regularizer(config, tower[0], Preprocessing(16), num_classes=6)
        return regularizer, make_trainer(tower[0], Preprocessing(16), recipe, regularizer.penalty)

    return build


def test_none_remembers_nothing_and_adds_nothing(tower):
    regularizer = none()
    memory = regularizer.consolidate(regularizer.init(tower[1]), tower[1], [], task(0))
    assert jax.tree.leaves(memory) == [] and regularizer.penalty is None


def test_l2_sp_pulls_towards_theta_0_whatever_was_learned_since(tower):
    regularizer = l2_sp(0.3)
    theta_1, theta_2 = nearby(tower[1], 1), nearby(tower[1], 2)
    memory = regularizer.consolidate(regularizer.init(tower[1]), theta_1, [], task(0))
    tau = flat(theta_2) - flat(tower[1])
    value, slope = jax.value_and_grad(lambda p: regularizer.penalty(memory, p, None))(theta_2)
    np.testing.assert_allclose(value, 0.15 * np.sum(tau**2), rtol=1e-5)
    np.testing.assert_allclose(flat(slope), 0.3 * tau, rtol=1e-4, atol=1e-7)


def test_ewc_weighs_the_distance_to_the_last_task_by_the_blended_fisher(tower, fishers):
    """F is 0, then 3/4 F_1, then 1/4 of that and 3/4 F_2."""
    regularizer = ewc(tower[0], Preprocessing(16), strength=50.0, fisher="batch", decay=0.25)
    memory, expected = regularizer.init(tower[1]), 0.0
    theta_3 = nearby(tower[1], 3)
    assert regularizer.penalty(memory, theta_3, None) == 0
    for number in (0, 1):
        theta = nearby(tower[1], number)
        memory = regularizer.consolidate(memory, theta, batches_of(number), task(number))
        own = flat(fishers["batch"](theta, batches_of(number), task(number)))
        expected = 0.25 * expected + 0.75 * own
        np.testing.assert_allclose(flat(memory.fisher), expected, rtol=1e-4, atol=1e-12)
        np.testing.assert_array_equal(flat(memory.theta), flat(theta))
        penalty = 50 / 2 * np.sum(expected * (flat(theta_3) - flat(theta)) ** 2)
        np.testing.assert_allclose(regularizer.penalty(memory, theta_3, None), penalty, rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_three_tasks_share_one_compilation_and_a_memory_of_one_size(tower, built, name):
    regularizer, trainer = built(name)
    place = one_device().params
    theta = place(tower[1])
    memory = place(regularizer.init(theta))
    size, losses = jax.eval_shape(lambda m: m, memory), []
    for number in range(3):
        batches, goal = batches_of(number), task(number)
        kept = jax.tree.map(np.array, memory)
        theta = fine_tune(
            trainer, theta, goal, batches, lambda _, metrics: losses.append(metrics.loss), memory
        )
        jax.tree.map(np.testing.assert_array_equal, memory, kept)  # still there, still the same
        memory = place(regularizer.consolidate(memory, theta, batches, goal))
        assert jax.eval_shape(lambda m: m, memory) == size
    assert trainer.step._cache_size() == 1
    assert len(losses) == 6 and np.isfinite(losses).all()


@pytest.mark.parametrize("name", ["ewc", "lwf", "l2_sp"])
def test_the_step_minimises_loss_plus_penalty_and_reports_both(tower, built, name):
    theta, batch, goal = nearby(tower[1], 5), batches_of(1)[1], task(1)
    (regularizer, trainer), (_, plain) = built(name), built("none")
    memory = after_one_task(tower[1])[name]
    state, metrics = trainer.step(trainer.init(theta), batch, goal, memory)
    plain_state, expected = plain.step(plain.init(theta), batch, goal)
    penalty = regularizer.penalty(memory, theta, forward(tower, theta, batch, goal))
    assert expected.penalty is None and penalty > 0
    np.testing.assert_allclose(metrics.penalty, penalty, rtol=1e-5)
    np.testing.assert_allclose(metrics.loss, expected.loss + penalty, rtol=1e-5)
    changed = np.abs(flat(state.params) - flat(plain_state.params)) > 1e-6
    assert np.mean(changed) > 0.1


@pytest.mark.parametrize(("name", "published"), [("ewc", 1e6), ("lwf", 0.3), ("l2_sp", None)])
def test_strength_is_a_factor_and_defaults_to_the_published_one(tower, built, name, published):
    """At zero there is no pull: neither a value nor a gradient."""
    theta, memory = nearby(tower[1], 5), after_one_task(tower[1])[name]
    batch, goal = batches_of(1)[0], task(1)

    def penalty(strength, params=theta):
        seen = forward(tower, params, batch, goal)
        return built(name, strength)[0].penalty(memory, params, seen)

    unit = penalty(1.0)
    assert unit > 0
    np.testing.assert_allclose(penalty(2.5), 2.5 * unit, rtol=1e-5)
    if published:
        np.testing.assert_allclose(penalty(None), published * unit, rtol=1e-5)
    value, slope = jax.jit(jax.value_and_grad(lambda params: penalty(0.0, params)))(theta)
    assert value == 0 and not flat(slope).any()
