"""Ranks by magnitude within rows, against two stable sorts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from magmax_jax.merging.numerics.ranking import ranks
from tests.merging.cases import normal_taus


def by_sorting(x: np.ndarray) -> np.ndarray:
    order = np.argsort(np.abs(x), axis=-1, kind="stable")
    return np.argsort(order, axis=-1, kind="stable")


@pytest.mark.parametrize("shape", [(0,), (1,), (9,), (3, 1), (2, 3, 65), (40, 128), (1 << 15,)])
def test_ranks_match_a_stable_sort(shape):
    x = normal_taus(*shape)
    np.testing.assert_array_equal(ranks(jnp.asarray(x)), by_sorting(x))
    np.testing.assert_array_equal(jax.jit(ranks)(x), by_sorting(x))


def test_ties_are_ranked_by_position():
    x = np.random.default_rng(0).integers(-3, 4, (5, 200)).astype(np.float32)
    np.testing.assert_array_equal(ranks(jnp.asarray(x)), by_sorting(x))
    np.testing.assert_array_equal(ranks(jnp.zeros(6) * jnp.array([1, -1, 1, -1, 1, 1])), range(6))


def test_magnitudes_differing_in_one_bit_are_ordered():
    bits = np.random.default_rng(1).permutation(np.arange(0x3F7FFF00, 0x3F800100, dtype=np.int32))
    x = bits.view(np.float32)
    np.testing.assert_array_equal(ranks(jnp.asarray(x)), by_sorting(x))


def test_scalars_and_rows_too_long_for_two_sorts_also_have_ranks():
    x = normal_taus((1 << 15) + 1)
    np.testing.assert_array_equal(ranks(jnp.asarray(x)), by_sorting(x))
    assert ranks(jnp.float32(3)) == 0
