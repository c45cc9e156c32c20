"""Element-wise rules against their formulas."""

import numpy as np
from hypothesis import given, settings

from magmax_jax.merging import rules
from tests.merging import oracle
from tests.merging.cases import TAUS, folded, normal_taus


@settings(max_examples=50, deadline=None)
@given(TAUS)
def test_extremes_and_sums_match_the_oracle_bit_for_bit(taus):
    for rule, expected in [
        (rules.max_magnitude(), oracle.max_magnitude(taus)),
        (rules.max_magnitude(provenance=True), oracle.max_magnitude(taus)),
        (rules.min_magnitude(), oracle.min_magnitude(taus)),
        (rules.average(), oracle.average(taus)),
        (rules.average(divisor=2), 0.5 * sum(taus)),
        (rules.task_arithmetic(), oracle.added(taus)),
    ]:
        np.testing.assert_array_equal(folded(rule, taus), expected)


@settings(max_examples=25, deadline=None)
@given(TAUS)
def test_provenance_is_the_task_of_the_largest_and_the_signs_of_all(taus):
    rule = rules.max_magnitude(provenance=True)
    state = rule.init(taus[0])
    np.testing.assert_array_equal(state.source, np.zeros(7))
    for tau in taus:
        state = rule.update(state, tau)
    assert state.source.dtype == np.uint8
    np.testing.assert_array_equal(state.source, oracle.last_largest(taus) + 1)
    assert state.signs.dtype == np.uint8
    np.testing.assert_array_equal(
        state.signs, 1 * (taus > 0).any(axis=0) + 2 * (taus < 0).any(axis=0)
    )


def test_provenance_saturates_at_255_tasks():
    rule = rules.max_magnitude(provenance=True)
    state = rule.init(np.zeros(1, np.float32))
    for number, expected in [(253, 254), (254, 255), (255, 255), (999, 255)]:
        later = rule.update(state._replace(count=np.int32(number)), np.ones(1, np.float32))
        assert int(later.source[0]) == expected


def test_a_later_task_wins_a_tie_of_magnitudes():
    taus = np.array([[2.0, -2.0, 0.0], [-2.0, 2.0, -0.0]], np.float32)
    for rule in (rules.max_magnitude(), rules.min_magnitude()):
        merged = folded(rule, taus)
        np.testing.assert_array_equal(merged, [-2.0, 2.0, 0.0])
        assert np.signbit(merged[2])  # even between zeros


def test_weighted_average_matches_the_oracle_and_common_factors_cancel():
    taus, weights = normal_taus(4, 50), [1.0, 2.0, 0.5, 3.0]
    merged = folded(rules.weighted_average(weights), taus)
    expected = oracle.weighted_average(taus, weights)
    np.testing.assert_allclose(merged, expected, rtol=1e-5, atol=1e-6)
    doubled = folded(rules.weighted_average([2 * w for w in weights]), taus)
    np.testing.assert_array_equal(doubled, merged)


def test_weighted_average_counts_the_tasks_seen_and_is_nan_beyond_its_weights():
    taus, rule = normal_taus(3, 5), rules.weighted_average([1.0, 3.0])
    np.testing.assert_array_equal(folded(rule, taus[:1]), taus[0])
    assert np.isnan(folded(rule, taus)).all()


def test_ema_matches_the_oracle_and_forgets_by_its_decay():
    taus = normal_taus(5, 50)
    for decay in (0.0, 0.3, 0.9):
        merged = folded(rules.ema(decay), taus)
        np.testing.assert_allclose(merged, oracle.ema(taus, decay), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(folded(rules.ema(0.0), taus), taus[-1])


def test_fisher_matches_the_oracle_and_averages_where_all_fishers_are_zero():
    taus = normal_taus(3, 50)
    information = np.abs(normal_taus(3, 50, seed=1))
    information[:, :10] = 0.0
    rule = rules.fisher(floor=1e-6)
    state = rule.init(taus[0])
    for tau, each in zip(taus, information, strict=True):
        state = rule.update(state, rules.Informed(tau, each))
    merged = np.asarray(rule.finalize(state))
    expected = oracle.fisher(taus, information, 1e-6)
    np.testing.assert_allclose(merged, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(merged[:10], taus[:, :10].mean(0), rtol=1e-5, atol=1e-6)
