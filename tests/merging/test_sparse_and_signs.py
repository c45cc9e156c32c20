"""Rules that trim and vote, mainly `ties`, against their formulas, with equal magnitudes."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magmax_jax.errors import UserError
from magmax_jax.merging import rules
from tests.merging import oracle
from tests.merging.cases import TAUS, folded, normal_taus

DENSITY = st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0])


@settings(max_examples=60, deadline=None)
@given(TAUS, DENSITY, st.sampled_from(["mass", "count"]), st.sampled_from(["mean", "sum", "max"]))
def test_ties_matches_the_oracle_bit_for_bit(taus, density, elect, aggregate):
    rule = rules.ties(density, elect=elect, aggregate=aggregate)
    expected = oracle.ties(taus, density, elect, aggregate)
    np.testing.assert_array_equal(folded(rule, taus), expected)


def test_ties_matches_the_oracle_on_many_entries():
    taus = normal_taus(5, 20_000)
    np.testing.assert_array_equal(folded(rules.ties(), taus), oracle.ties(taus, 0.2))


@settings(max_examples=30, deadline=None)
@given(TAUS, st.integers(0, 20), DENSITY)
def test_a_larger_denominator_counts_as_extra_zeros(taus, untouched, density):
    padded = np.pad(taus, [(0, 0), (0, untouched)])
    merged = folded(rules.ties(density, entries=7 + untouched), taus)
    np.testing.assert_array_equal(merged, oracle.ties(padded, density)[:7])


def test_a_huge_denominator_keeps_everything_and_a_too_small_one_is_refused():
    taus = normal_taus(2, 100)
    everything = folded(rules.ties(density=1.0), taus)
    np.testing.assert_array_equal(folded(rules.ties(entries=1000), taus), everything)
    with pytest.raises(UserError, match="entries is 99: give at least 100"):
        folded(rules.ties(entries=99), taus)


@settings(max_examples=30, deadline=None)
@given(TAUS, DENSITY)
def test_per_tensor_ties_keeps_one_entry_fewer(taus, density):
    kept = oracle.largest(taus, int(7 * density))
    for majority in (1, -1):
        rule = rules.ties(density, threshold="per_tensor", majority=majority)
        np.testing.assert_array_equal(folded(rule, taus), oracle.elect_and_merge(kept, majority))


def test_per_tensor_and_global_thresholds_differ_where_tensors_differ_in_size():
    tau = {"large": np.float32([10, 20, 30, 40]), "small": np.float32([1, 2, 3, 4])}
    rule, each = rules.ties(0.5), rules.ties(0.5, threshold="per_tensor")
    np.testing.assert_array_equal(rule.finalize((tau,))["small"], [0, 0, 0, 4])
    np.testing.assert_array_equal(rule.finalize((tau,))["large"], [10, 20, 30, 40])
    np.testing.assert_array_equal(each.finalize((tau,))["small"], [0, 0, 3, 4])
    np.testing.assert_array_equal(each.finalize((tau,))["large"], [0, 0, 30, 40])


def test_entries_that_cancel_take_the_majority_of_the_whole_tree():
    def taus(sign):
        return tuple(
            {"cancels": np.float32([own]), "rest": np.float32([sign, sign, -sign])}
            for own in (2.0, -2.0)
        )

    for sign in (1, -1):
        merged = rules.ties(1.0).finalize(taus(sign))
        np.testing.assert_array_equal(merged["cancels"], [2.0 * sign])
        merged = rules.ties(1.0, majority=-sign).finalize(taus(sign))
        np.testing.assert_array_equal(merged["cancels"], [-2.0 * sign])


def test_the_number_of_thresholds_must_match_the_task_vectors():
    with pytest.raises(UserError, match="ties: 1 thresholds for 2 task vectors"):
        folded(rules.ties(thresholds=[0.5]), normal_taus(2, 5))
    pruned = rules.magnitude_prune(threshold="global", thresholds=[0.5])
    assert np.isnan(folded(pruned, normal_taus(2, 5))).all()


def test_magnitude_prune_keeps_the_largest():
    taus = normal_taus(3, 101)
    expected = oracle.added(oracle.largest(taus, 20))
    np.testing.assert_array_equal(folded(rules.magnitude_prune(0.2), taus), expected)
    expected = oracle.added(oracle.largest(taus, 21))
    merged = folded(rules.magnitude_prune(0.2, threshold="global"), taus)
    np.testing.assert_array_equal(merged, expected)
    given = rules.magnitude_prune(threshold="global", thresholds=[0.0, 1.0, np.inf])
    kept = taus[0] + np.where(np.abs(taus[1]) >= 1, taus[1], 0)
    np.testing.assert_array_equal(folded(given, taus), kept)


def test_breadcrumbs_matches_the_oracle_and_works_tensor_by_tensor():
    taus = normal_taus(3, 1000)
    for beta, gamma in [(0.85, 0.006), (0.5, 0.25), (0.0, 0.1), (0.9, 0.0)]:
        merged = folded(rules.breadcrumbs(beta, gamma), taus)
        np.testing.assert_array_equal(merged, oracle.breadcrumbs(taus, beta, gamma))
    same = np.ones((1, 10), np.float32)  # all tied with the last one kept
    np.testing.assert_array_equal(folded(rules.breadcrumbs(0.5, 0.1), same), same[0])


@settings(max_examples=40, deadline=None)
@given(TAUS)
def test_emr_matches_the_oracle_bit_for_bit(taus):
    np.testing.assert_array_equal(folded(rules.emr(), taus), oracle.emr(taus))


def test_emr_restores_each_task_from_the_unified_vector():
    taus = normal_taus(4, 60)
    unified = folded(rules.emr(), taus)
    whole = {"a": unified[:10], "b": unified[10:], "steps": np.int8(0)}
    for task, tau in enumerate(taus):
        mask, rescale = rules.emr_modulation(
            whole, {"a": tau[:10], "b": tau[10:], "steps": np.int8(0)}
        )
        restored = np.concatenate([mask["a"] * unified[:10], mask["b"] * unified[10:]]) * rescale
        np.testing.assert_allclose(restored, oracle.emr_restored(taus, task), rtol=1e-5)
        sums = np.float32([rules.emr_sums(unified[s], tau[s]) for s in (slice(10), slice(10, 60))])
        leaf = rules.emr_modulation(unified[:10], tau[:10], tuple(sums[0] + sums[1]))
        assert leaf.rescale == rescale
    nothing = rules.emr_modulation(jnp.zeros(3), jnp.zeros(3))
    assert nothing.rescale == 1 and not nothing.mask.any()


def test_consensus_matches_the_oracle_and_drops_entries_that_one_task_needs():
    taus = normal_taus(4, 500)
    for votes, tall_lambda in [(2, 0.4), (1, 1.0), (3, 0.2), (0, 0.5)]:
        merged = folded(rules.consensus(votes, tall_lambda), taus)
        np.testing.assert_array_equal(merged, oracle.consensus(taus, votes, tall_lambda))
    selfish = np.float32([[5, 1, 0], [0, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(folded(rules.consensus(), selfish), [0, 2, 0])


def test_consensus_of_increments_uses_what_each_task_changed():
    taus = np.cumsum(normal_taus(4, 500), axis=0)
    changes = np.diff(taus, axis=0, prepend=0)
    rule = rules.consensus(increments=True)
    np.testing.assert_allclose(folded(rule, taus), oracle.consensus(changes, 2, 0.4), atol=1e-5)
    assert rule.default_scale == 1
    # The first task's change, kept by the others: four agreeing task vectors would lose it.
    for tasks, published in ((3, 3), (4, 0)):
        kept = np.ones((tasks, 1), np.float32)
        np.testing.assert_array_equal(folded(rules.consensus(), kept), [published])
        of_increments = rules.consensus(votes=1, increments=True)
        np.testing.assert_array_equal(folded(of_increments, kept), [1])
