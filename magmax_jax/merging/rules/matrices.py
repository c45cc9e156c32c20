"""Shared by matrix rules: applies a function to every matrix that a leaf holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeAlias

from magmax_jax.merging.linear_maps import Finder, Found, Matrices
from magmax_jax.merging.rule import MergeRule, OfLeaf
from magmax_jax.packages.lazy_jax import jax, jnp

Find = Finder | Found
Function: TypeAlias = "Callable[..., jax.Array]"


def each_matrix(function: Function) -> Callable[[Matrices], Function]:
    """Lifts a function of matrices to leaves with a given layout.

    Args:
      function: takes matrices, returns a matrix. The lifted function takes as many leaves, and
        applies it to their first matrices, their second ones, and so on.
    """

    def in_turn(matrices: Matrices) -> Function:
        # Under `vmap`, a branch on the matrix's values would compute both sides.
        return lambda *leaves: matrices.join(
            jax.lax.map(lambda each: function(*each), tuple(map(matrices.split, leaves)))
        )

    return _lifted(function, in_turn)


def each_matrix_of_tasks(function: Function) -> Callable[[Matrices], Function]:
    """`each_matrix` for a function of one array of every task's matrix: (t, m, n) -> (m, n).

    The lifted function takes one array of every task's leaf: (t, *shape).
    """

    def in_turn(matrices: Matrices) -> Function:
        def lifted(leaves: jax.Array) -> jax.Array:
            stacks = jnp.swapaxes(jax.vmap(matrices.split)(leaves), 0, 1)
            return matrices.join(jax.lax.map(function, stacks))

        return lifted

    return _lifted(function, in_turn)


def _lifted(
    function: Function, in_turn: Callable[[Matrices], Function]
) -> Callable[[Matrices], Function]:
    """`function` itself for a leaf that is one matrix, `in_turn` for others; on whole arrays."""

    @cache
    def lifted(matrices: Matrices) -> Function:
        from magmax_jax.merging.numerics.replication import on_whole_arrays  # imports JAX

        return on_whole_arrays(function if matrices.alone else in_turn(matrices))

    return lifted


def by_matrix(
    function: Function, find: Find, lift: Callable[..., Any] = each_matrix
) -> Callable[[str, Sequence[int]], Function | None]:
    """`each_matrix` by a leaf's name and shape; None for a leaf that has no matrices.

    Args:
      lift: `each_matrix` or `each_matrix_of_tasks`.
    """
    of_leaves = lift(function)

    def choose(name: str, shape: Sequence[int]) -> Function | None:
        matrices = find.of(name, shape)
        return None if matrices is None else of_leaves(matrices)

    return choose


def facts_of(
    build: Callable[[Find], MergeRule], find: Find, otherwise: str = "averaged"
) -> dict[str, Any]:
    """Fields of `MergeRule` that matrix rules share.

    Args:
      build: makes the rule for a given way of finding matrices.
      otherwise: how leaves without matrices are merged, such as "averaged".
    """

    def of_leaf(name: str, shape: Sequence[int]) -> OfLeaf:
        matrices = find.of(name, shape)
        return OfLeaf(build(Found(matrices)).on_any_mesh(), taken_as(matrices, len(shape)))

    def taken_as(matrices: Matrices | None, axes: int) -> str:
        if matrices is None:
            return f"as {'tables' if axes == 2 else 'no matrices'} ({otherwise})"
        each = f"{matrices.parts} matrices side by side" if matrices.parts > 1 else "matrices"
        return f"as stacks of {each}" if matrices.stacked else f"as {each}"

    return {
        "scope": "tensor",
        "reads_names": find.reads_names,
        "decomposes": True,
        "of_leaf": of_leaf,
    }
