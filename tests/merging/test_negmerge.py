"""NegMerge: subtracts what several fine-tunings agree on."""

import numpy as np
from hypothesis import given, settings

import magmax_jax as mm
from magmax_jax.merging import rules
from tests.merging import oracle
from tests.merging.cases import TAUS, folded, normal_taus


@settings(max_examples=60, deadline=None)
@given(TAUS)
def test_negmerge_matches_the_oracle_bit_for_bit(taus):
    np.testing.assert_array_equal(folded(rules.negmerge(), taus), oracle.negmerge(taus))


def test_a_quarter_of_the_random_entries_of_three_agree():
    taus = normal_taus(3, 40_000)
    merged = folded(rules.negmerge(), taus)
    np.testing.assert_array_equal(merged, oracle.negmerge(taus))
    assert abs(np.mean(merged != 0) - 0.25) < 0.01


def test_an_entry_unchanged_by_one_task_is_unchanged():
    for taus in ([[1.0], [0.0]], [[0.0], [1.0]], [[-0.0], [-1.0]], [[1.0], [-1.0], [1.0]]):
        assert folded(rules.negmerge(), np.float32(taus)) == 0


def test_changes_too_small_to_multiply_agree():
    taus = np.float32([[1e-30, -1e-30, 1e-30], [1e-30, -1e-30, -1e-30]])
    np.testing.assert_array_equal(folded(rules.negmerge(), taus), np.float32([1e-30, -1e-30, 0]))


def test_nan_is_not_hidden():
    taus = np.float32([[np.nan, 1, -1, 1], [1, np.nan, 1, 1], [-1, 2, np.nan, 1]])
    np.testing.assert_array_equal(folded(rules.negmerge(), taus), [np.nan, np.nan, np.nan, 1])


def test_by_default_half_of_what_was_learned_is_subtracted():
    theta_0 = {"w": np.float32([1, 1, 1])}
    models = [{"w": np.float32([3, 0, 2])}, {"w": np.float32([2, -1, 0])}]
    unlearned = mm.merge(theta_0, models, "negmerge")["w"]
    np.testing.assert_array_equal(unlearned, np.float32([0.25, 1.75, 1]))
    np.testing.assert_array_equal(mm.merge(theta_0, models, "negmerge", 0.5)["w"], [1.75, 0.25, 1])
