"""Sums in a fixed order: their value, and bits that do not depend on the surrounding program."""

import os

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magmax_jax.merging.numerics.reductions import fixed_sum, inner
from tests.merging.cases import normal_taus


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([0, 1, 7, 8, 9, 65, 1000]), st.integers(0, 99))
def test_they_equal_sums_up_to_rounding(n, seed):
    a, b = normal_taus(2, n, seed=seed)
    np.testing.assert_allclose(fixed_sum(a), a.sum(dtype=float), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(inner(a, b), a.astype(float) @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(128, 5), (256, 3), (3, 128, 7), (2, 2, 384, 1), (129, 5)])
def test_they_equal_sums_with_and_without_steps_over_rows(shape):
    a, b = normal_taus(2, *shape)
    np.testing.assert_allclose(fixed_sum(a), a.sum(dtype=float), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(inner(a, b), (a.astype(float) * b).sum(), rtol=1e-5, atol=1e-4)
    assert fixed_sum(np.ones(shape)) == np.prod(shape)  # every entry, once


def test_rounding_errors_do_not_accumulate():
    assert abs(fixed_sum(np.full((384, 7813), 0.1, np.float32)) / 300_019.2 - 1) < 1e-6
    assert abs(fixed_sum(np.full(3_000_001, 0.1, np.float32)) / 300_000.1 - 1) < 1e-6


@pytest.mark.skipif(
    "--xla_cpu_use_fusion_emitters=false" in os.environ.get("XLA_FLAGS", ""),
    reason="XLA's older emitters round differently: MAGMAX_TESTS_OPTIMIZED=1 runs it",
)
def test_their_bits_do_not_depend_on_the_surrounding_program():
    for seed, shape in enumerate([(1000,), (1001,), (256, 5)]):
        a, b = normal_taus(2, *shape, seed=seed)
        alone = inner(a, b)
        with jax.disable_jit():
            plain = inner(a, b)
        together = jax.jit(lambda a, b: inner(a * 3 - 2 * a, b) * 2 + inner(b, a))(a, b)
        assert alone == plain
        assert together == 2 * inner(jax.jit(lambda a: a * 3 - 2 * a)(a), b) + alone
