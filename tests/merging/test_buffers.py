"""Ownership of a state's buffers: donated if only the state holds them, else copied first."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import magmax_jax as mm
from magmax_jax.errors import UserError
from magmax_jax.merging import MergeRule, fold
from tests.merging.cases import STREAMING

ZERO = jnp.zeros(2)


class Pair(NamedTuple):
    first: Any
    second: Any


def rule(init, update=lambda state, tau: Pair(tau["w"], state.second)) -> MergeRule:
    """A rule whose result is the first entry of its state."""
    return MergeRule(init, update, lambda state: {"w": state.first}, True, 1.0)


def merge_twice(rule: MergeRule) -> np.ndarray:
    theta_0 = {"w": jnp.array([1.0, 2.0])}
    models = [{"w": jnp.array([3.0, 3.0])}, {"w": jnp.array([2.0, 4.0])}]
    for _ in range(2):
        theta = mm.merge(theta_0, models, rule)
    np.testing.assert_array_equal(theta_0["w"], [1, 2])
    np.testing.assert_array_equal(models[1]["w"], [2, 4])
    return np.asarray(theta["w"])


@pytest.mark.parametrize(
    "init",
    [
        lambda theta: Pair(theta["w"], theta["w"]),  # theta_0 itself, and one array twice
        lambda theta: Pair(ZERO, ZERO),  # an array that the rule itself keeps
        lambda theta: Pair(np.zeros(2, np.float32), 0.0),  # NumPy and Python numbers
    ],
)
def test_states_may_share_arrays_with_others(init):
    np.testing.assert_array_equal(merge_twice(rule(init)), [2, 4])
    np.testing.assert_array_equal(ZERO, [0, 0])


def test_an_update_may_return_the_task_vector_twice():
    update = lambda state, tau: Pair(tau["w"], tau["w"])  # noqa: E731
    np.testing.assert_array_equal(merge_twice(rule(lambda t: Pair(ZERO, ZERO), update)), [2, 4])


def test_folding_copies_what_the_state_shares_with_the_model():
    theta_0, model = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}
    state = fold(rule(lambda t: None), Pair(model["w"], theta_0["w"]), model, theta_0)
    np.testing.assert_array_equal(state.first, [1, 1])
    np.testing.assert_array_equal(model["w"], [1, 1])
    np.testing.assert_array_equal(theta_0["w"], [0, 0])


@pytest.mark.parametrize(
    "name",
    ["max_magnitude", "provenance", "average", "emr", "opcm", "scaled_last", "max_increment"],
)
def test_bundled_rules_donate_all_their_buffers(name):
    theta_0 = {"w": jnp.ones((4, 3)), "n": jnp.int32(1)}
    state = STREAMING[name].init(theta_0)
    taken = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state) if leaf.ndim]
    new = fold(STREAMING[name], state, {"w": jnp.zeros((4, 3)), "n": jnp.int32(2)}, theta_0)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state) if leaf.ndim)
    found = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(new) if leaf.ndim]
    assert set(found) == set(taken)


def test_a_state_that_was_folded_into_is_refused():
    theta_0, model = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}
    state = mm.rules.max_magnitude().init(theta_0)
    fold(mm.rules.max_magnitude(), state, model, theta_0)
    with pytest.raises(UserError, match="this state was already folded into"):
        fold(mm.rules.max_magnitude(), state, model, theta_0)


def test_the_state_returned_by_merge_can_continue_and_has_provenance():
    theta_0 = {"w": jnp.zeros(3), "f": jnp.tanh}
    models = [{"w": jnp.array(w), "f": None} for w in ([3.0, 1, 0], [-1.0, -2, 0])]
    tracked = mm.rules.max_magnitude(provenance=True)
    theta, state = mm.merge(theta_0, models, tracked, return_state=True)
    np.testing.assert_array_equal(theta["w"], [1.5, -1, 0])
    assert isinstance(state, mm.rules.Sourced)
    np.testing.assert_array_equal(state.source["w"], [1, 2, 2])
    shares = [(part.task, part.supplied) for part in mm.analysis.supplied(state)]
    assert shares == [(1, 1), (2, 1)]
    state = fold(tracked, state, {"w": jnp.array([0.0, 0, 9]), "f": None}, theta_0)
    np.testing.assert_array_equal(state.source["w"], [1, 2, 3])
