"""Singular value decompositions of weight matrices, most of which are much longer than wide.

LAPACK takes two to four times as long for 768 x 3072 as for 768 x 768. On CPUs such a matrix is
therefore decomposed by way of its small Gram matrix, in float64:

    A A' = U diag(s^2) U',    V' = diag(1 / s) U' A

The Gram matrix squares the condition number k = s_1 / s_n: of float64's 53 bits an error of k^2
2^-53 is left in V. Up to k = 2^13.5 that is 2^-26, below the 2^-24 to which float32 holds V at all,
and every number is at least as accurate as LAPACK's in float32, whose error is k 2^-24. Matrices
beyond it, those without full rank among them, are LAPACK's. Accelerators, which are slow in
float64, use their own decomposition for all.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

LONG = 2
"""How many times as long as wide a matrix must be for the Gram matrix to be worth it."""
SMALLEST = 2.0**-27
"""The least s_i^2 / s_1^2 of a singular value that is found by the Gram matrix."""

Svd = tuple[jax.Array, jax.Array, jax.Array]


def leading_svd(x: jax.Array, count: int) -> Svd:
    """The first singular triplets of a matrix: U (m, count), s (count,) descending, V' (count, n).

    Args:
      x: (m, n), float32, not empty.
      count: how many, at most min(m, n).
    """

    def by_lapack(x: jax.Array) -> Svd:
        u, s, v = jnp.linalg.svd(x, full_matrices=False)
        return u[:, :count], s[:count], v[:count]

    def of_gram(x: jax.Array, s: jax.Array, u: jax.Array) -> Svd:
        return u, s, jax.lax.dot((u / s).T, x)

    if x.shape[0] > x.shape[1]:
        v, s, u = leading_svd(x.T, count)
        return u.T, s, v.T
    return _fastest(x, by_lapack, of_gram, count)


def nearest_orthogonal(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """U V' of the matrix U diag(s) V', and s: the nearest matrix of orthonormal rows or columns.

    Args:
      x: (m, n), float32, not empty.

    Returns:
      (m, n) and, descending, (min(m, n),), float32.
    """

    def by_lapack(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        u, s, v = jnp.linalg.svd(x, full_matrices=False)
        return jnp.matmul(u, v, precision="highest"), s

    def of_gram(x: jax.Array, s: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.lax.dot(jax.lax.dot(u / s, u.T), x), s

    if x.shape[0] > x.shape[1]:
        nearest, s = nearest_orthogonal(x.T)
        return nearest.T, s
    return _fastest(x, by_lapack, of_gram, x.shape[0])


def _fastest(x: jax.Array, by_lapack: Callable, of_gram: Callable, count: int) -> Any:
    """`by_lapack` of a matrix, or what `of_gram` makes of its Gram matrix's decomposition.

    Args:
      x: (m, n), m <= n.
      of_gram: called in float64 with x, its first singular values, and U (m, count).
    """
    if x.shape[1] < LONG * x.shape[0]:
        return by_lapack(x)

    def by_gram(x: jax.Array) -> Any:
        # Only here: the program around it stays in float32.
        with jax.enable_x64(True):
            wide = x.astype(jnp.float64)
            squares, u = jnp.linalg.eigh(jax.lax.dot(wide, wide.T), symmetrize_input=False)
            squares, u = squares[::-1][:count], u[:, ::-1][:, :count]

            def found(wide: jax.Array) -> Any:
                parts = of_gram(wide, jnp.sqrt(squares), u)
                return jax.tree.map(lambda part: part.astype(jnp.float32), parts)

            # False for a matrix of zeros, too.
            sound = squares[-1] > SMALLEST * squares[0]
            return jax.lax.cond(
                sound, found, lambda wide: by_lapack(wide.astype(jnp.float32)), wide
            )

    @jax.custom_jvp
    def chosen(x: jax.Array) -> Any:
        return jax.lax.platform_dependent(x, cpu=by_gram, default=by_lapack)

    # In float32: JAX derives `by_gram` outside of its float64, where eigh's rule does not trace.
    chosen.defjvp(lambda primals, tangents: jax.jvp(by_lapack, primals, tangents))
    return chosen(x)
