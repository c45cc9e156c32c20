"""Callers may change their NumPy arrays as soon as a function of ours returns.

JAX computes in the background, and on CPUs it reads aligned NumPy arrays where they are. A model
that is loaded into the arrays of the one before, or trained on in them, must not change a merge.
"""

from collections.abc import Callable, Iterator

import jax
import numpy as np
import pytest

import magmax_jax as mm
from magmax_jax.merge_files.aligned import aligned
from magmax_jax.merging import MergeRule, fold
from magmax_jax.merging.rule import informed
from tests.merging.cases import EVERY

VALUES = (1.0, -3.0, 2.0, 4.0)
GARBAGE = 777.0
Model = dict[str, np.ndarray]


def empty(rows: int = 4096) -> Model:
    """Many entries: to read them takes longer than to return."""
    return {"block.kernel": aligned((rows, 64), np.float32)}


def fill(model: Model, value: float) -> Model:
    for leaf in model.values():
        leaf[...] = value + np.arange(leaf.shape[1], dtype=np.float32) / 64
    return model


def full(value: float, rows: int = 4096) -> Model:
    return fill(empty(rows), value)


def rows(name: str) -> int:
    return 256 if EVERY[name].decomposes else 4096


def given(name: str, model: Model) -> object:
    return informed(EVERY[name], model, jax.tree.map(np.abs, model))


def count(name: str) -> int:
    return EVERY[name].most_models or max(3, EVERY[name].fewest_models)


def loaded_into(name: str, model: Model) -> Iterator[object]:
    for value in VALUES[: count(name)]:
        yield given(name, fill(model, value))
        fill(model, GARBAGE)


def same(found: object, expected: object) -> None:
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("name", EVERY)
def test_a_generator_may_load_every_model_into_the_same_arrays(name):
    theta_0 = full(0.5, rows(name))
    apart = [given(name, full(value, rows(name))) for value in VALUES[: count(name)]]
    expected = mm.merge(theta_0, apart, EVERY[name])
    same(mm.merge(theta_0, loaded_into(name, empty(rows(name))), EVERY[name]), expected)


@pytest.mark.parametrize("name", EVERY)
def test_a_state_keeps_nothing_of_the_callers_arrays(name):
    rule = EVERY[name]
    if rule.survey:
        pytest.skip("this rule needs all task vectors at once")

    def state(change: Callable[[Model], object]) -> object:
        theta_0, model = full(0.5, rows(name)), empty(rows(name))
        updated, folded = rule.init(theta_0), rule.init(theta_0)
        for value in VALUES[: count(name)]:
            updated = rule.update(updated, given(name, fill(model, value)))
            change(model)
            folded = fold(rule, folded, given(name, fill(model, value)), theta_0)
            change(model)
        change(theta_0)
        return rule.finalize(updated), rule.finalize(folded)

    same(state(lambda model: fill(model, GARBAGE)), state(lambda model: None))


def test_task_vectors_and_models_are_finished_when_they_are_returned():
    theta_0, theta = full(0.5), full(2.0)
    tau = mm.task_vector(theta, theta_0)
    fill(theta, GARBAGE)
    fill(theta_0, GARBAGE)
    same(tau, mm.task_vector(full(2.0), full(0.5)))
    theta_0 = full(0.5)
    applied = mm.apply_task_vector(theta_0, tau, 0.5)
    fill(theta_0, GARBAGE)
    same(applied, mm.apply_task_vector(full(0.5), tau, 0.5))


@pytest.mark.parametrize(
    "keep", [lambda leaf: leaf, np.asarray, jax.numpy.asarray, lambda leaf: leaf[:]]
)
def test_a_rule_of_ones_own_may_keep_what_it_is_given(keep):
    """Its state is copied where it shares memory with the caller's arrays."""
    last = MergeRule(
        lambda theta_0: jax.tree.map(keep, theta_0),
        lambda state, tau: jax.tree.map(keep, tau),
        lambda state: state,
        streaming=True,
        default_scale=1.0,
    ).on_any_mesh()
    theta_0, tau = full(0.5), full(2.0)
    states = last.init(theta_0), last.update(None, tau)
    fill(theta_0, GARBAGE)
    fill(tau, GARBAGE)
    same(states, (full(0.5), full(2.0)))


def test_arrays_are_not_copied_where_nothing_keeps_them():
    rule = mm.rules.average().on_any_mesh()
    state = rule.init(full(0.5))
    leaves = jax.tree.leaves(rule.update(state, jax.tree.map(jax.numpy.asarray, full(1.0))))
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
