"""Decompositions of long matrices: as accurate as LAPACK's, with LAPACK as the fallback."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from magmax_jax.merging.numerics.decomposition import leading_svd, nearest_orthogonal

LONG = pytest.mark.parametrize("shape", [(24, 96), (96, 24), (7, 300)])


def matrix(shape: tuple[int, int], condition: float, seed: int = 0) -> np.ndarray:
    """Random singular vectors; log-uniformly decreasing singular values, starting at 1."""
    u, _, v = np.linalg.svd(np.random.default_rng(seed).normal(size=shape), full_matrices=False)
    return np.float32(u * np.geomspace(1, 1 / condition, min(shape)) @ v)


def orthogonal(x: np.ndarray) -> np.ndarray:
    u, _, v = np.linalg.svd(x, full_matrices=False)
    return u @ v


@LONG
@pytest.mark.parametrize("condition", [1.5, 1e2, 1e4])
def test_it_is_at_least_as_accurate_as_float32(shape, condition):
    x = matrix(shape, condition)
    u, s, v = map(np.asarray, leading_svd(x, min(shape)))
    assert u.dtype == s.dtype == v.dtype == np.float32
    assert (np.diff(s) <= 0).all()
    size, exact = min(shape), np.linalg.svd(x.astype(float), compute_uv=False)
    theirs = np.abs(np.linalg.svd(x, compute_uv=False) - exact).max()
    assert np.abs(s - exact).max() <= max(theirs, 1.2e-7)
    for factor in (u.T.astype(float), v.astype(float)):
        np.testing.assert_allclose(factor @ factor.T, np.eye(size), atol=2e-6)
    np.testing.assert_allclose(u * s @ v, x, atol=1e-6)
    wanted = orthogonal(x.astype(float))
    nearest, singular = nearest_orthogonal(x)
    np.testing.assert_allclose(singular, s, rtol=1e-6)
    error = np.abs(nearest - wanted).max()
    assert error <= max(2 * np.abs(orthogonal(x) - wanted).max(), 3e-7)


@LONG
def test_leading_triplets_are_the_first_of_the_full_svd(shape):
    x = matrix(shape, 50)
    few, every = leading_svd(x, 3), leading_svd(x, min(shape))
    assert [part.shape for part in few] == [(shape[0], 3), (3,), (3, shape[1])]
    wanted = every[0][:, :3] * every[1][:3] @ every[2][:3]
    np.testing.assert_allclose(few[0] * few[1] @ few[2], wanted, atol=1e-6)


@LONG
@pytest.mark.parametrize("rank", [0, 1, 5, None])
def test_without_full_rank_it_falls_back_to_lapack(shape, rank):
    """Rank None: full rank, but too ill-conditioned for a Gram matrix."""
    random = np.random.default_rng(rank)
    x = matrix(shape, 1e6)
    if rank is not None:
        x = np.float32(random.normal(size=(shape[0], rank)) @ random.normal(size=(rank, shape[1])))
    wide = x if shape[0] <= shape[1] else x.T
    u, s, v = jnp.linalg.svd(wide, full_matrices=False)
    found = leading_svd(wide, min(shape))
    for part, wanted in zip(found, (u, s, v), strict=True):
        np.testing.assert_array_equal(part, wanted)
    together, _ = nearest_orthogonal(x)
    gram = together @ together.T if shape[0] <= shape[1] else together.T @ together
    np.testing.assert_allclose(gram, np.eye(min(shape)), atol=1e-5)


def program(shape: tuple[int, int], platform: str) -> str:
    traced = jax.jit(lambda x: leading_svd(x, 3)).trace(jax.ShapeDtypeStruct(shape, jnp.float32))
    return traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("shape", [(8, 32), (32, 8)])
def test_only_cpus_use_the_float64_gram_matrix(shape):
    assert "f64" in program(shape, "cpu") and "lapack_dsyevd" in program(shape, "cpu")
    assert "f64" not in program(shape, "cuda")


def test_nearly_square_matrices_only_use_lapack():
    assert "f64" not in program((8, 15), "cpu")


def test_surrounding_code_stays_in_float32():
    found = jax.jit(lambda x: (*nearest_orthogonal(x), jnp.ones(3) / 3))(
        np.ones((2, 9), np.float32)
    )
    assert {part.dtype for part in found} == {np.dtype(np.float32)}
    assert not jax.config.jax_enable_x64


@LONG
def test_gradients_match_lapacks(shape):
    x, weights = matrix(shape, 10), np.float32(np.random.default_rng(1).normal(size=shape))

    def lapacks(x):
        u, _, v = jnp.linalg.svd(x, full_matrices=False)
        return jnp.sum(weights * (u @ v))

    found = jax.grad(lambda x: jnp.sum(weights * nearest_orthogonal(x)[0]))(x)
    wanted = jax.grad(lapacks)(x)
    np.testing.assert_allclose(found, wanted, atol=1e-3 * np.abs(wanted).max())
