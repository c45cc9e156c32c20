"""Random rules: their formulas given the draws, the distribution, and what draws depend on."""

import jax
import numpy as np
import pytest

from magmax_jax.errors import UserError
from magmax_jax.merging import rules
from tests.merging import oracle
from tests.merging.cases import folded, normal_taus


def draws(seed: int, tasks: int, n: int, name: str = "") -> np.ndarray:
    """The uniform draws (t, n) for a leaf of that name."""
    return np.stack(
        [jax.random.uniform(rules.leaf_key(seed, t, name), (n,)) for t in range(1, tasks + 1)]
    )


def test_random_mix_matches_the_oracle_given_the_same_draws():
    taus = normal_taus(6, 1000)
    expected = oracle.random_mix(taus, draws(3, 6, 1000))
    np.testing.assert_array_equal(folded(rules.random_mix(seed=3), taus), expected)


def test_random_mix_takes_every_task_equally_often():
    n, tasks = 40_000, 5
    taus = np.repeat(np.arange(1.0, tasks + 1, dtype=np.float32)[:, None], n, axis=1)
    shares = np.bincount(folded(rules.random_mix(), taus).astype(int), minlength=tasks + 1)[1:] / n
    deviation = np.sqrt(0.2 * 0.8 / n)
    assert np.abs(shares - 1 / tasks).max() < 5 * deviation
    assert len(set(shares)) > 1  # random, not an even split


def test_dare_matches_the_oracle_given_the_same_draws_and_keeps_the_mean():
    taus = normal_taus(3, 1000)
    expected = oracle.dare(taus, draws(3, 3, 1000), drop=0.7)
    np.testing.assert_allclose(
        folded(rules.dare(0.7, seed=3), taus), expected, rtol=1e-5, atol=1e-5
    )
    ones = np.ones((1, 40_000), np.float32)
    merged = folded(rules.dare(0.75), ones)
    np.testing.assert_allclose(np.unique(merged), [0, 4])
    assert abs(merged.mean() - 1) < 5 * 4 * np.sqrt(0.25 * 0.75 / 40_000)


def test_della_matches_the_oracle_given_the_same_draws():
    taus = normal_taus(3, 500)
    expected = oracle.della(taus, draws(3, 3, 500), 0.5, 0.2)
    merged = folded(rules.della(0.5, 0.2, seed=3), taus)
    np.testing.assert_allclose(merged, expected, rtol=1e-5, atol=1e-6)


def test_della_keeps_large_entries_more_often_row_by_row():
    row = np.arange(1.0, 2001.0, dtype=np.float32)
    tau = np.stack([row, 1e-3 * row])  # a row of small entries is not thinned more than the other
    kept = folded(rules.della(0.5, 0.4), tau[None]) != 0
    small, large = kept[:, :200].mean(1), kept[:, -200:].mean(1)
    assert (small < 0.25).all() and (large > 0.75).all()


@pytest.mark.parametrize("make", [rules.random_mix, rules.dare, rules.della])
def test_all_digits_of_a_seed_count_and_non_integers_are_refused(make):
    taus = normal_taus(3, 300)
    seeds = (0, 1, 2**32, 2**32 + 1, 2**64, -1)
    drawn = {folded(make(seed=seed), taus).tobytes() for seed in seeds}
    assert len(drawn) == len(seeds)
    same = folded(make(seed=np.int64(1)), taus)
    np.testing.assert_array_equal(same, folded(make(seed=1), taus))
    for wrong in (1e3, "1", None):
        with pytest.raises(UserError, match=r"seed is .*: give an integer, such as 0"):
            make(seed=wrong)


def test_draws_depend_only_on_seed_task_and_name():
    taus = normal_taus(3, 300)
    for make in (rules.random_mix, lambda seed: rules.dare(seed=seed)):
        alone = folded(make(1), taus)
        np.testing.assert_array_equal(alone, folded(make(1), taus))
        assert (alone != folded(make(2), taus)).any()
    rule = rules.random_mix()

    def merge(tree):
        state = rule.init(tree(taus[0]))
        for tau in taus:
            state = rule.update(state, tree(tau))
        return rule.finalize(state)

    flat = merge(lambda tau: {"b.c": tau})["b.c"]
    beside = merge(lambda tau: {"a": tau, "b": {"c": tau}})
    np.testing.assert_array_equal(beside["b"]["c"], flat)  # not on the rest of the tree
    assert (np.asarray(beside["a"]) != np.asarray(flat)).any()
    assert (draws(0, 2, 50)[0] != draws(0, 2, 50)[1]).any()
