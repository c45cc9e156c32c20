"""Merge rules against the plain statement of their formulas, and the properties they must have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import magmax_jax as mm
from magmax_jax.errors import UserError
from magmax_jax.merging import fold, merged, rules
from tests.merging import oracle

FINITE = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)  # XLA flushes those to zero
TAUS = hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.just(7)), elements=FINITE)
"""One to five task vectors of seven entries; ties and zeros are frequent."""
EVERY_RULE = pytest.mark.parametrize("name", ["max_magnitude", "average", "random_mix"])


def folded(rule: mm.MergeRule, taus: np.ndarray) -> np.ndarray:
    """The rule applied to task vectors (t, n)."""
    state = rule.init(taus[0])
    for tau in taus:
        state = rule.update(state, tau)
    return np.asarray(rule.finalize(state))


@settings(max_examples=50, deadline=None)
@given(TAUS)
def test_max_magnitude_is_the_oracle_bit_for_bit(taus):
    np.testing.assert_array_equal(folded(rules.max_magnitude(), taus), oracle.max_magnitude(taus))


@settings(max_examples=50, deadline=None)
@given(TAUS)
def test_average_is_the_oracle_bit_for_bit(taus):
    np.testing.assert_array_equal(folded(rules.average(), taus), oracle.average(taus))


def test_random_mix_is_the_oracle_given_the_same_draws():
    taus = np.random.default_rng(0).normal(size=(6, 1000)).astype(np.float32)
    draws = []
    for t in range(1, 7):
        draws.append(np.asarray(jax.random.uniform(rules.leaf_key(3, t, ""), (1000,))))
    expected = oracle.random_mix(taus, np.stack(draws))
    np.testing.assert_array_equal(folded(rules.random_mix(seed=3), taus), expected)


def test_a_later_task_wins_a_tie_of_magnitudes():
    taus = np.array([[2.0, -2.0, 0.0], [-2.0, 2.0, -0.0]], np.float32)
    merged = folded(rules.max_magnitude(), taus)
    np.testing.assert_array_equal(merged, [-2.0, 2.0, 0.0])
    assert np.signbit(merged[2])  # even between zeros


def test_random_mix_takes_every_task_equally_often():
    n, tasks = 40_000, 5
    taus = np.repeat(np.arange(1.0, tasks + 1, dtype=np.float32)[:, None], n, axis=1)
    shares = np.bincount(folded(rules.random_mix(), taus).astype(int), minlength=tasks + 1)[1:] / n
    deviation = np.sqrt(0.2 * 0.8 / n)
    assert np.abs(shares - 1 / tasks).max() < 5 * deviation
    assert len(set(shares)) > 1  # drawn, not dealt out


def test_random_mix_depends_on_the_seed_and_on_nothing_else():
    taus = np.random.default_rng(0).normal(size=(3, 100)).astype(np.float32)
    first = folded(rules.random_mix(1), taus)
    np.testing.assert_array_equal(first, folded(rules.random_mix(1), taus))
    assert (first != folded(rules.random_mix(2), taus)).any()


def test_random_mix_draws_anew_in_every_leaf():
    taus = [{"a": np.full(200, t), "b": np.full(200, t)} for t in np.float32([1, 2])]
    rule = rules.random_mix()
    state = rule.init(taus[0])
    for tau in taus:
        state = rule.update(state, tau)
    assert (np.asarray(state.tau["a"]) != np.asarray(state.tau["b"])).any()


@EVERY_RULE
def test_one_task_merges_to_itself_and_state_outlives_finalize(name):
    rule = rules.named(name)
    tau = np.random.default_rng(0).normal(size=(1, 50)).astype(np.float32)
    np.testing.assert_array_equal(folded(rule, tau), tau[0])
    state = rule.update(rule.init(tau[0]), tau[0])
    np.testing.assert_array_equal(rule.finalize(state), rule.finalize(state))


def test_max_magnitude_is_idempotent_and_ignores_order_without_ties():
    taus = np.random.default_rng(0).normal(size=(4, 100)).astype(np.float32)
    once = folded(rules.max_magnitude(), taus)
    np.testing.assert_array_equal(folded(rules.max_magnitude(), np.stack([*taus, once])), once)
    np.testing.assert_array_equal(folded(rules.max_magnitude(), taus[::-1]), once)


@EVERY_RULE
def test_the_state_does_not_grow_with_the_tasks(name):
    rule = rules.named(name)
    tau = np.ones(1000, np.float32)
    state = rule.init(tau)

    def size():
        return sum(leaf.nbytes for leaf in jax.tree.leaves(state))

    empty = size()
    for _ in range(10):
        state = rule.update(state, tau)
    assert size() == empty <= tau.nbytes + 4
    assert rule.streaming


@EVERY_RULE
def test_the_jitted_fold_gives_the_same_bits_as_the_plain_one(name):
    rule = rules.named(name)
    random = np.random.default_rng(0)
    theta_0 = {"w": random.normal(size=(8, 5)).astype(np.float32)}
    models = [{"w": random.normal(size=(8, 5)).astype(np.float32)} for _ in range(4)]
    state = rule.init(theta_0)
    for model in models:
        state = fold(rule, state, model, theta_0)
    plain = rule.init(theta_0)
    for model in models:
        plain = rule.update(plain, {"w": model["w"] - theta_0["w"]})
    np.testing.assert_array_equal(rule.finalize(state)["w"], rule.finalize(plain)["w"])
    result = merged(rule, state, theta_0, 0.5)
    np.testing.assert_array_equal(result["w"], mm.merge(theta_0, models, rule, 0.5)["w"])


def test_equal_rules_are_one_value_so_that_each_compiles_once():
    assert rules.max_magnitude() is rules.max_magnitude()
    assert rules.random_mix(1) is rules.random_mix(1)
    assert rules.random_mix(1) is not rules.random_mix(2)


def test_an_unknown_rule_names_the_known_ones():
    with pytest.raises(UserError, match="'tyes' is no merge rule: choose from max_magnitude"):
        rules.named("tyes")


def test_half_precision_models_are_merged_in_float32():
    theta_0 = jnp.zeros(3, jnp.float16)
    models = [jnp.full(3, 60000, jnp.float16)] * 3  # their float16 sum would be infinite
    np.testing.assert_array_equal(mm.merge(theta_0, models, rules.average()), models[0])
