"""Inner products, cosines and norms against NumPy, with a bound on task vectors in memory."""

import weakref

import jax.numpy as jnp
import numpy as np
import pytest

from magmax_jax.analysis import cosines, inner_products, norm, norms
from magmax_jax.errors import UserError
from tests.analysis.cases import flat, task_vector


@pytest.mark.parametrize("at_once", [2, 3, 4, 5, 8])
def test_products_match_numpy_however_many_are_held(at_once):
    taus = [task_vector(seed) for seed in range(5)]
    rows = np.stack([flat(tau) for tau in taus]).astype(float)
    products = inner_products(taus.__getitem__, 5, at_once)
    np.testing.assert_allclose(products, rows @ rows.T, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(products, products.T)
    assert products.dtype == np.float64


def test_no_more_are_held_than_allowed_and_few_are_loaded_once():
    alive, most, loads = [], 0, []

    def load(task):
        nonlocal most
        array = jnp.full(4, float(task + 1))
        loads.append(task)
        alive.append(weakref.ref(array))
        most = max(most, sum(array() is not None for array in alive))
        return {"w": array}

    inner_products(load, 7, at_once=3)
    assert most == 3
    loads.clear()
    inner_products(load, 7, at_once=7)
    assert loads == list(range(7))


def test_cosines_match_the_angles_and_are_zero_for_zero_vectors():
    taus = [np.float32(x) for x in ([3, 4], [-6, -8], [4, -3], [0, 0])]
    products = inner_products(taus.__getitem__, 4)
    np.testing.assert_allclose(norms(products), [5, 10, 5, 0])
    np.testing.assert_allclose(
        cosines(products),
        [[1, -1, 0, 0], [-1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]],
        atol=1e-7,
    )
    assert inner_products(taus.__getitem__, 0).shape == (0, 0)


def test_the_norm_is_over_all_floating_point_leaves():
    tau = task_vector(3)
    assert norm(tau) == pytest.approx(np.linalg.norm(flat(tau).astype(float)), rel=1e-6)


def test_invalid_input_is_rejected():
    with pytest.raises(UserError, match="at_once is 1"):
        inner_products(lambda task: np.ones(2, np.float32), 2, at_once=1)
    with pytest.raises(UserError, match="shape"):
        inner_products(lambda task: np.ones(2 + task, np.float32), 2)
