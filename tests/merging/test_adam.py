"""Merges weighted by Adam's second moments, against their formulas and against other rules."""

import jax
import numpy as np
import pytest

import magmax_jax as mm
from magmax_jax.errors import UserError
from magmax_jax.merging import fold, rules
from tests.merging.cases import folded, models, normal_taus, theta

TAUS = normal_taus(4, 60)
MOMENTS = normal_taus(4, 60, seed=1) ** 2
MOMENTS[:, :10] = 0
MOMENTS[:2, 10:20] = 0
MOMENTS[1:, 20:30] = 0
"""Entries with weight from no task, from the last two, from the first, and from all tasks."""


def merged(rule: mm.MergeRule, taus=TAUS, moments=MOMENTS) -> np.ndarray:
    state = rule.init(taus[0])
    for tau, moment in zip(taus, moments, strict=True):
        state = rule.update(state, rules.Informed(tau, moment))
    return np.asarray(rule.finalize(state))


@pytest.mark.parametrize("power", [1.0, 0.5, 0.3, 2.0])
def test_the_mean_is_weighted_and_plain_if_no_task_has_weight(power):
    found = merged(rules.adam_weighted(power))
    weights = np.float64(MOMENTS) ** power
    expected = np.sum(weights * TAUS, axis=0)[10:] / weights.sum(axis=0)[10:]
    np.testing.assert_allclose(found[10:], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[:10], TAUS[:, :10].mean(axis=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("power", [1.0, 0.5, 2.0])
def test_the_change_most_costly_to_its_task_is_selected_and_later_tasks_win_ties(power):
    rule = rules.adam_weighted(power, select=True)
    cost = np.float64(MOMENTS) ** power * np.float64(TAUS) ** 2
    last_best = len(TAUS) - 1 - np.argmax(cost[::-1], axis=0)
    expected = TAUS[last_best, np.arange(TAUS.shape[1])]
    np.testing.assert_array_equal(merged(rule), expected)
    np.testing.assert_array_equal(expected[:10], TAUS[-1, :10])
    assert len(set(last_best.tolist())) == len(TAUS)
    assert rules.adam_selected(power) is rule


def test_power_0_weights_all_tasks_equally():
    average, magmax = folded(rules.average(), TAUS), folded(rules.max_magnitude(), TAUS)
    np.testing.assert_allclose(merged(rules.adam_weighted(0.0)), average, rtol=1e-6)
    np.testing.assert_array_equal(merged(rules.adam_selected(0.0)), magmax)


@pytest.mark.parametrize("rule", [rules.adam_weighted(), rules.adam_weighted(0.5)])
def test_it_equals_fisher_merging_and_ignores_the_moments_unit(rule):
    moments = MOMENTS**0.5 if rule is rules.adam_weighted(0.5) else MOMENTS
    found = merged(rule)
    np.testing.assert_allclose(
        found, merged(rules.fisher(floor=1e-12), moments=moments), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(merged(rule, moments=1e-12 * MOMENTS), found, rtol=1e-4, atol=1e-5)


def test_a_negative_moment_counts_as_zero():
    negative = np.where(MOMENTS == 0, np.float32(-1), MOMENTS)
    for rule in (rules.adam_weighted(), rules.adam_weighted(0.5), rules.adam_selected()):
        np.testing.assert_array_equal(merged(rule, moments=negative), merged(rule))


@pytest.mark.parametrize("power", [-0.5, float("nan"), float("inf"), 10**400])
def test_other_powers_are_refused(power):
    for rule in (rules.adam_weighted, rules.adam_selected):
        with pytest.raises(UserError, match=r"adam_weighted: power is .*: it must be 0 or a pos"):
            rule(power)


def test_the_state_holds_the_sums():
    theta_0, rule = theta(0), rules.adam_weighted()
    state = rule.init(theta_0)
    given = models("adam_weighted")
    for model in given:
        state = fold(rule, state, model, theta_0)
    for leaf in ("block.kernel", "bias"):
        moments = np.stack([model.fisher[leaf] for model in given])
        taus = np.stack([model.params[leaf] - theta_0[leaf] for model in given])
        np.testing.assert_allclose(state.total[leaf], moments.sum(axis=0), rtol=1e-5)
        sums = (moments * taus).sum(axis=0)
        np.testing.assert_allclose(state.weighted[leaf], sums, rtol=1e-5, atol=1e-5)
    assert int(state.count) == 3
    parameters = sum(leaf.size for leaf in jax.tree.leaves(theta_0))
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 2 * parameters + 1


def test_models_without_moments_are_refused_by_name():
    for name in ("adam_weighted", "adam_selected"):
        with pytest.raises(UserError, match=r"needs every model as rules.Informed\(params, second"):
            mm.merge(theta(0), [theta(1)], name)
