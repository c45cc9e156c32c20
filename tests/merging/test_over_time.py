"""Rules for sequentially learned tasks, and rules on norms, against their formulas."""

import numpy as np
import pytest
from hypothesis import given, settings

import magmax_jax as mm
from magmax_jax.errors import UserError
from magmax_jax.merging import rules
from tests.merging import oracle
from tests.merging.cases import TAUS, folded, models, normal_taus, theta


@settings(max_examples=25, deadline=None)
@given(TAUS)
def test_the_last_and_the_largest_step_match_the_oracle_bit_for_bit(taus):
    np.testing.assert_array_equal(folded(rules.scaled_last(), taus), taus[-1])
    np.testing.assert_array_equal(folded(rules.max_increment(), taus), oracle.max_increment(taus))


def test_scaled_last_interpolates_between_the_pretrained_and_the_last_model():
    theta_0, tasks = theta(0), models("scaled_last")
    half = mm.merge(theta_0, tasks, "scaled_last")
    for name in ("block.kernel", "bias"):
        np.testing.assert_allclose(half[name], (theta_0[name] + tasks[-1][name]) / 2, atol=1e-6)


def test_a_later_step_wins_a_tie_and_steps_back_count():
    taus = np.array([[1.0, 2.0, 0.0], [2.0, -1.0, 3.0], [1.0, -4.0, 0.0]], np.float32)
    np.testing.assert_array_equal(folded(rules.max_increment(), taus), [-1.0, -3.0, -3.0])


def test_steps_of_disjoint_entries_add_up_to_the_last_task_vector():
    steps = np.eye(3, dtype=np.float32)
    np.testing.assert_array_equal(folded(rules.max_increment(), steps.cumsum(axis=0)), np.ones(3))


@pytest.mark.parametrize("decay", [0.3, 0.9])
def test_ema_magmax_matches_the_oracle(decay):
    taus = normal_taus(5, 50)
    merged = folded(rules.ema_magmax(decay), taus)
    np.testing.assert_allclose(merged, oracle.ema_magmax(taus, decay), rtol=1e-5, atol=1e-6)


def test_ema_magmax_is_between_the_last_task_and_magmax():
    taus = normal_taus(5, 50)
    np.testing.assert_array_equal(folded(rules.ema_magmax(0.0), taus), taus[-1])
    np.testing.assert_array_equal(folded(rules.ema_magmax(1.0), taus), oracle.max_magnitude(taus))


def norm(tau) -> float:
    return np.linalg.norm(np.asarray(tau, np.float64))


@pytest.mark.parametrize("name", ["max_magnitude", "average", "task_arithmetic", "ema", "dare"])
def test_every_tensor_of_any_rule_can_have_the_mean_norm_of_the_tasks(name):
    theta_0, tasks = theta(0), models(name)
    taus = [mm.task_vector(task, theta_0) for task in tasks]
    matched, plain = (
        mm.task_vector(mm.merge(theta_0, tasks, rule, scale=1.0), theta_0)
        for rule in (rules.norm_matched(name), rules.named(name))
    )
    for leaf in ("block.kernel", "blocks", "bias"):
        wanted = np.mean([norm(tau[leaf]) for tau in taus])
        expected = plain[leaf] * wanted / norm(plain[leaf])
        np.testing.assert_allclose(matched[leaf], expected, atol=1e-5)


def test_norm_matched_takes_rules_with_their_options_seeds_surveys_and_fishers():
    taus = normal_taus(3, 50)
    mean = np.mean(np.linalg.norm(taus, axis=1))
    np.testing.assert_allclose(
        folded(rules.norm_matched(rules.ema(0.0)), taus),
        taus[-1] * mean / norm(taus[-1]),
        rtol=1e-5,
    )
    one, two = (folded(rules.named("norm_matched", seed, rule="dare"), taus) for seed in (1, 2))
    assert (one != two).any()
    assert rules.norm_matched(rules.magnitude_prune(threshold="global")).survey is not None
    informed = models("fisher")
    merged = mm.merge(theta(0), informed, rules.norm_matched("fisher"), scale=1.0)
    wanted = np.mean([norm(model.params["bias"] - theta(0)["bias"]) for model in informed])
    np.testing.assert_allclose(norm(merged["bias"] - theta(0)["bias"]), wanted, rtol=1e-5)


def test_norm_matched_of_models_without_changes_is_the_pretrained():
    np.testing.assert_array_equal(
        mm.merge(theta(0), [theta(0)] * 2, "norm_matched")["bias"], theta(0)["bias"]
    )


def test_rules_with_a_norm_of_their_own_or_without_a_fixed_state_are_refused():
    with pytest.raises(UserError, match="norm_matched: the rule already sets a norm"):
        rules.norm_matched("opcm")
    with pytest.raises(UserError, match="norm_matched: the rule collects all task vectors"):
        rules.norm_matched("ties")
