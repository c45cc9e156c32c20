"""The exact k-th magnitude: equal to sorting, for any split into leaves, with ties and extremes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from magmax_jax.merging import kth_magnitude, kth_magnitude_streamed, selection

ANY = st.floats(width=32, allow_nan=False, allow_infinity=False)  # subnormal numbers included
ARRAYS = hnp.arrays(np.float32, 9, elements=ANY | st.sampled_from([0.0, -0.0, 1.0, -1.0]))


@settings(max_examples=60, deadline=None)
@given(ARRAYS, st.sampled_from([1, 2, 5, 9]))
def test_it_is_the_sorted_ones_bit_for_bit(x, k):
    expected = np.sort(np.abs(x))[k - 1]
    for found in (
        kth_magnitude(x, k),
        kth_magnitude({"a": x[:2], "b": x[2:], "n": np.int32(5)}, k),
        kth_magnitude_streamed(lambda: [x[:4], np.arange(3), x[4:].reshape(1, 5)], k),
    ):
        assert np.asarray(found).tobytes() == expected.tobytes()


def test_it_is_torchs_kthvalue_on_a_large_array():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=300_001).astype(np.float32)
    x[::7] = 0.5  # many ties
    for k in (1, 150_000, 240_001):
        expected = torch.from_numpy(x).abs().kthvalue(k).values.item()
        assert float(kth_magnitude(x, k)) == expected
        assert float(kth_magnitude_streamed(lambda: [*np.split(x[1:], 3), x[:1]], k)) == expected


def test_it_is_jitable_and_takes_leaves_of_every_size_and_precision():
    random = np.random.default_rng(0)
    tree = {
        "large": random.normal(size=(300, 300)).astype(np.float32),  # counted by itself
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
        assert kth_magnitude(x, k) == kth_magnitude_streamed(lambda: [x], k) == expected


def test_counts_beyond_32_bits_are_compared_exactly():
    counts = [jnp.array([2**31 - 1, 5], jnp.int32)] * 5  # 10,737,418,235 and 25
    for number, expected in [
        (10_737_418_235, [True, False]),
        (10_737_418_236, [False, False]),
        (25, [True, True]),
        (26, [True, False]),
    ]:
        assert selection.reaches(counts, number).tolist() == expected


def test_passes_that_differ_are_a_bug_that_is_told():
    sizes = iter(range(3, 99))
    with pytest.raises(ValueError, match="a pass gave 4 entries after one of 3"):
        kth_magnitude_streamed(lambda: [np.ones(next(sizes), np.float32)], 2)
