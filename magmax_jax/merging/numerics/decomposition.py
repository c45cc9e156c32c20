"""Singular value decompositions of weight matrices, most of which are far from square.

LAPACK takes two to four times as long for 768 x 3072 as for 768 x 768. On CPUs such a matrix is
therefore decomposed through its small Gram matrix, in float64:

    A A' = U diag(s^2) U',    V' = diag(1 / s) U' A

The Gram matrix squares the condition number k = s_1 / s_n, so with float64's 53 bits V has an error
of k^2 2^-53. Up to k = 2^13.5 that is 2^-26, below float32's own resolution of 2^-24, and every
number is at least as accurate as LAPACK's in float32, whose error is k 2^-24. Matrices beyond that,
including rank-deficient ones, go to LAPACK. Accelerators, which are slow in float64, use their own
decomposition for all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from magmax_jax.packages.lazy_jax import jax, jnp

LONG = 2
"""Least aspect ratio at which the Gram matrix is worth it."""
SMALLEST = 2.0**-27
"""Least s_i^2 / s_1^2 at which a singular value is taken from the Gram matrix."""

Svd: TypeAlias = "tuple[jax.Array, jax.Array, jax.Array]"


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
    """U V' of x = U diag(s) V', the nearest matrix with orthonormal rows or columns, and s.

    Args:
      x: (m, n), float32, not empty.

    Returns:
      float32 (m, n) and (min(m, n),), the latter descending.
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
    """`by_lapack` of a matrix, or `of_gram` of its Gram matrix's decomposition.

    Args:
      x: (m, n), m <= n.
      of_gram: called in float64 with x, its first singular values, and U (m, count).
    """
    if x.shape[1] < LONG * x.shape[0]:
        return by_lapack(x)

    def by_gram(x: jax.Array) -> Any:
        # float64 only here: the surrounding program stays in float32.
        with jax.enable_x64(True):
            wide = x.astype(jnp.float64)
            squares, u = jnp.linalg.eigh(jax.lax.dot(wide, wide.T), symmetrize_input=False)
            squares, u = squares[::-1][:count], u[:, ::-1][:, :count]

            def found(wide: jax.Array) -> Any:
                parts = of_gram(wide, jnp.sqrt(squares), u)
                return jax.tree.map(lambda part: part.astype(jnp.float32), parts)

            # Also False for a zero matrix.
            sound = squares[-1] > SMALLEST * squares[0]
            return jax.lax.cond(
                sound, found, lambda wide: by_lapack(wide.astype(jnp.float32)), wide
            )

    @jax.custom_jvp
    def chosen(x: jax.Array) -> Any:
        return jax.lax.platform_dependent(x, cpu=by_gram, default=by_lapack)

    # In float32: JAX differentiates `by_gram` outside its float64 scope, where eigh's rule does not
    # trace.
    chosen.defjvp(lambda primals, tangents: jax.jvp(by_lapack, primals, tangents))
    return chosen(x)
