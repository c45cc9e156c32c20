"""The exact k-th magnitude equals sorting, for any split into leaves, with ties and extremes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from magmax_jax.merging import count_at_least, kth_magnitude, kth_magnitudes_counted
from magmax_jax.merging.numerics import selection

ANY = st.floats(width=32, allow_nan=False, allow_infinity=False)  # subnormal numbers included
ARRAYS = hnp.arrays(np.float32, 9, elements=ANY | st.sampled_from([0.0, -0.0, 1.0, -1.0]))


count = jax.jit(count_at_least)


def counted(*leaves: np.ndarray, k: int) -> np.float32:
    """Counts in passes over separate leaves; the sample is the first leaf."""

    def all_counted(pivots):
        return sum(np.asarray(count(leaf, pivots[0]), int)[None] for leaf in leaves)

    n = sum(leaf.size for leaf in leaves)
    return kth_magnitudes_counted(all_counted, n, k, [leaves[0].ravel()])[0]


@settings(max_examples=60, deadline=None)
@given(ARRAYS, st.sampled_from([1, 2, 5, 9]))
def test_it_matches_sorting_bit_for_bit(x, k):
    expected = np.sort(np.abs(x))[k - 1]
    for found in (
        kth_magnitude(x, k),
        kth_magnitude({"a": x[:2], "b": x[2:], "n": np.int32(5)}, k),
        counted(x[:4], x[4:].reshape(1, 5), k=k),
    ):
        assert np.asarray(found).tobytes() == expected.tobytes()


def test_it_matches_torch_kthvalue_on_a_large_array():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=300_001).astype(np.float32)
    x[::7] = 0.5  # many ties
    for k in (1, 150_000, 240_001):
        expected = torch.from_numpy(x).abs().kthvalue(k).values.item()
        assert float(kth_magnitude(x, k)) == expected
        assert float(counted(x[:1], *np.split(x[1:], 3), k=k)) == expected


def test_it_can_be_jitted_and_takes_leaves_of_every_size_and_precision():
    random = np.random.default_rng(0)
    tree = {
        "large": random.normal(size=(300, 300)).astype(np.float32),  # counted separately
        "half": jnp.asarray(random.normal(size=(40, 3)), jnp.bfloat16),
        "scalar": np.float32(2.0),
    }
    assert tree["large"].size > selection.SMALL
    every = np.concatenate([np.abs(np.asarray(x, np.float32)).ravel() for x in tree.values()])
    found = jax.jit(kth_magnitude, static_argnums=1)(tree, 70_000)
    assert found == np.sort(every)[69_999]


def test_ranks_beyond_the_ends_keep_everything_and_nothing():
    x = np.float32([1, -2, 3])
    for k, expected in [(0, 0.0), (-5, 0.0), (4, np.inf)]:
        assert kth_magnitude(x, k) == counted(x, k=k) == expected


def test_counts_beyond_32_bits_are_compared_exactly():
    counts = [jnp.array([2**31 - 1, 5], jnp.int32)] * 5  # 10,737,418,235 and 25
    for enough, expected in [
        (10_737_418_235, [True, False]),
        (10_737_418_236, [False, False]),
        (25, [True, True]),
        (26, [True, False]),
    ]:
        assert (selection.excess(counts, selection.Enough.of(enough)) >= 0).tolist() == expected


@pytest.mark.parametrize(
    "x",
    [
        np.random.default_rng(0).normal(size=200_000),
        np.random.default_rng(0).normal(size=200_000) ** 9,
        np.repeat([0.0, 1e-30, 0.5, 2.0, 3e38], [90_000, 10_000, 60_000, 39_999, 1]),
        np.full(200_000, 0.25),
    ],
    ids=["normal", "heavy tails", "ties", "constant"],
)
def test_few_passes_find_it_in_any_distribution_and_from_any_sample(x):
    x = x.astype(np.float32)
    ordered = np.sort(np.abs(x))
    for sample in (x[::16], np.float32([1e30]), np.float32([0.0])):
        for k in (1, 20_000, 100_000, 160_000, 199_999, 200_000):
            passes = []

            def one_pass(pivots, passes=passes):
                passes.append(pivots)
                return np.asarray(count(x, pivots[0]))[None]

            assert kth_magnitudes_counted(one_pass, x.size, k, [sample])[0] == ordered[k - 1]
            assert len(passes) <= 17  # a quarter of 31 bits per pass, plus the sample's pass
    assert len(selection.next_pivots(selection.Bracket(0, 100, 5.0, -3.0))) == selection.PIVOTS


def test_several_are_found_in_the_same_passes():
    random = np.random.default_rng(0)
    taus = [random.normal(size=5_000).astype(np.float32) * scale for scale in (1, 1e-20, 0)]
    each = lambda pivots: [count(tau, own) for tau, own in zip(taus, pivots, strict=True)]  # noqa: E731
    found = kth_magnitudes_counted(each, 5_000, 4_000, [tau[:50] for tau in taus])
    np.testing.assert_array_equal(found, [np.sort(np.abs(tau))[3_999] for tau in taus])
