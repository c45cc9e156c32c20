"""Keeping a share of a task vector: against NumPy's sort, exact counts, repeatable draws."""

import jax
import ml_dtypes
import numpy as np
import pytest

from magmax_jax.analysis import keep, threshold
from magmax_jax.errors import UserError
from magmax_jax.merging.rule import leafwise
from tests.analysis.cases import flat, task_vector


def without_zeros(seed: int) -> dict:
    return leafwise(lambda leaf: np.where(leaf == 0, np.float32(1e-3), leaf), task_vector(seed))


@pytest.mark.parametrize("share", [0.01, 0.3])
@pytest.mark.parametrize("choice", ["largest", "smallest"])
def test_keeps_the_entries_that_sorting_finds(choice, share):
    tau = task_vector(0)
    x = flat(tau)
    count = int(share * x.size)
    order = np.argsort(np.abs(x) if choice == "smallest" else -np.abs(x), kind="stable")
    expected = np.zeros_like(x)
    expected[order[:count]] = x[order[:count]]
    kept = keep(tau, share, choice)
    np.testing.assert_array_equal(flat(kept), expected)
    assert kept["steps"] == tau["steps"]


def test_random_entries_have_an_exact_count_spread_evenly_and_depend_on_seed_and_name():
    tau = without_zeros(0)
    kept = keep(tau, 0.3, "random", seed=1)
    x, found = flat(tau), flat(kept)
    assert np.count_nonzero(found) == int(0.3 * x.size)
    assert set(found[found != 0]) <= set(x)
    halves = [np.count_nonzero(half) / half.size for half in np.array_split(found, 2)]
    assert max(halves) - min(halves) < 0.1
    again, other = keep(tau, 0.3, "random", seed=1), keep(tau, 0.3, "random", seed=2)
    np.testing.assert_array_equal(found, flat(again))
    assert 0.02 < np.mean((found != 0) & (flat(other) != 0)) < 0.16  # 0.09 by chance
    # Same names in another order, in other containers, and inside a larger program.
    moved = {"steps": tau["steps"], "head": tau["head"]} | {
        f"blocks.{name}": leaf for name, leaf in tau["blocks"].items()
    }
    np.testing.assert_array_equal(keep(moved, 0.3, "random", seed=1)["head"], kept["head"])
    jitted = jax.jit(lambda tau: keep(tau, 0.3, "random", seed=1))(tau)
    np.testing.assert_array_equal(flat(jitted), found)


@pytest.mark.parametrize("choice", ["largest", "smallest", "random"])
def test_share_0_gives_zeros_and_share_1_the_task_vector_itself(choice):
    tau = task_vector(0)
    assert not flat(keep(tau, 0.0, choice)).any()
    for ours, theirs in zip(*map(jax.tree.leaves, (keep(tau, 1.0, choice), tau)), strict=True):
        assert ours.tobytes() == theirs.tobytes()


def test_entries_tied_with_the_last_kept_one_are_kept():
    tau = np.float32([2, -1, 1, 0])
    np.testing.assert_array_equal(keep(tau, 0.5), [2, -1, 1, 0])
    np.testing.assert_array_equal(keep(tau, 0.5, "smallest"), [0, -1, 1, 0])


def test_dtypes_are_preserved():
    tau = {"w": np.arange(8).astype(ml_dtypes.bfloat16)}
    kept = keep(tau, 0.25)["w"]
    assert kept.dtype == tau["w"].dtype
    np.testing.assert_array_equal(np.asarray(kept, np.float32), [0] * 6 + [6, 7])


def test_the_threshold_is_the_last_magnitude_kept():
    tau = without_zeros(0)
    least = float(threshold(tau, 0.3))
    assert np.abs(flat(keep(tau, 0.3))[flat(keep(tau, 0.3)) != 0]).min() == least
    assert (float(threshold(tau, 0.0)), float(threshold(tau, 1.0))) == (np.inf, 0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((1.1,), "share of 1.1"), ((float("nan"),), "share of nan"), ((0.5, "best"), "'best'")],
    ids=["share", "nan", "choice"],
)
def test_invalid_input_is_rejected(arguments, message):
    with pytest.raises(UserError, match=message):
        keep(np.ones(3, np.float32), *arguments)


def test_two_leaves_with_one_name_are_rejected():
    with pytest.raises(UserError, match=r"'a\.b'"):
        keep({"a": {"b": np.ones(2, np.float32)}, "a.b": np.ones(2, np.float32)}, 0.5)
