"""`tsv_m` in constant memory: keeps only what the merge will use of every task."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

from magmax_jax.merging.linear_maps import Finder, Maps, Matrices, Said
from magmax_jax.merging.numerics.decomposition import leading_svd
from magmax_jax.merging.rule import MergeRule, factory, leafwise_at
from magmax_jax.merging.rules.matrices import Find, each_matrix, facts_of
from magmax_jax.merging.rules.spectral import orthogonalised
from magmax_jax.merging.task_vectors import PyTree, zeros
from magmax_jax.packages.lazy_jax import jax, jnp
from magmax_jax.registry import RULES


class Components(NamedTuple):
    """State of `tsv_stream`.

    A matrix (m, n) has r = min(m, n) slots for components; empty ones are zero. Several matrices of
    one leaf have the same layout in the two arrays as in the leaf.

    Attributes:
      left: for matrices, U diag(s): (m, r) each. For other leaves, the sum of the task vectors.
      right: for matrices, V': (r, n) each. For other leaves, a zero.
      count: tasks seen, int32 scalar.
    """

    left: PyTree
    right: PyTree
    count: jax.Array  # type: ignore[assignment]  # part of saved states; tuple.count is not called


@RULES.register("tsv_stream")
@factory
def tsv_stream(
    stacked: bool = False,
    averaged: Sequence[str] = (),
    matrices: Said = "by_name",
    maps: Maps | None = None,
) -> MergeRule:
    """`tsv_m` as a streaming rule: the leading singular vectors of all tasks, made orthogonal.

        after task t, the first floor(r / t) of r components of each of tau_1 ... tau_t:
        U = [U_1 ... U_t],  V = [V_1 ... V_t],  s = [s_1 ... s_t],    tau = U~ diag(s) V~'
        U~ the orthogonal matrix nearest to U

    TSV-Merge, Gargiulo et al., 2025 (arXiv 2412.00081). What it keeps of a task after t tasks is
    part of what it kept before, so earlier task vectors are not needed: after every task the merge
    equals that of `tsv_m` up to rounding, as long as there are no more tasks than components (t <=
    r). Beyond that, the r tasks with the largest first singular values keep that component.

    Leaves that are not matrices are averaged. Default scale 1, that of `tsv_m`. State: (m + n) r
    entries per matrix (m, n), i.e. two task vectors for a square one and less for all others, and a
    counter. A task costs one decomposition per matrix, a merge two. Order affects only rounding.

    Args:
      stacked: treat leaves with three axes as stacks of matrices.
      averaged: substrings of the names of matrices to average instead.
      matrices: how to treat leaves with two axes, "by_name" or "by_shape".
      maps: the leaves that hold matrices of linear maps, instead of `stacked` and `matrices`.

    Raises:
      UserError: an option is invalid.
    """
    return _tsv_stream(Finder.checked(matrices, stacked, averaged, maps))


@functools.cache
def _tsv_stream(find: Find) -> MergeRule:
    decompose, squares = each_matrix(_decomposed), each_matrix(_squares)
    combine = each_matrix(_combined)

    def init(pretrained: PyTree) -> Components:
        def empty(name: str, leaf: jax.Array, side: int) -> jax.Array:
            matrices = find.of(name, leaf.shape)
            if matrices is None:
                return jnp.zeros((), jnp.float32) if side else leaf
            m, n = (stack := matrices.split(leaf)).shape[1:]
            shape = (min(m, n), n) if side else (m, min(m, n))
            return matrices.join(jnp.zeros((len(stack), *shape), jnp.float32))

        left, right = (
            leafwise_at(functools.partial(empty, side=side), zeros(pretrained)) for side in (0, 1)
        )
        return Components(left, right, jnp.int32(0))

    def update(state: Components, tau: PyTree) -> Components:
        def added(
            name: str, tau: jax.Array, left: jax.Array, right: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            matrices = find.of(name, tau.shape)
            if matrices is None:
                return left + tau, right
            new = _unpacked(decompose(matrices)(tau), matrices, tau)
            norms = matrices.split(squares(matrices)(left))[:, 0]
            return _added(matrices, left, right, new, norms, state.count)

        pairs = leafwise_at(added, tau, state.left, state.right)
        side = lambda which: leafwise_at(lambda _, tau, pair: pair[which], tau, pairs)  # noqa: E731
        return Components(side(0), side(1), state.count + 1)

    def finalize(state: Components) -> PyTree:
        share = 1.0 / jnp.maximum(state.count, 1)

        def merge(name: str, left: jax.Array, right: jax.Array) -> jax.Array:
            shape = (*left.shape[:-1], *right.shape[-1:])
            if right.ndim and (matrices := find.of(name, shape)):
                return combine(matrices)(left, right)
            return left * share

        return leafwise_at(merge, state.left, state.right)

    return MergeRule(
        init,
        update,
        finalize,
        streaming=True,
        default_scale=1.0,
        **facts_of(_tsv_stream, find),
    )


def _decomposed(tau: jax.Array) -> jax.Array:
    """All components of a matrix (m, n) in one array (m + n, r): U diag(s) above V."""
    u, s, v = leading_svd(tau, min(tau.shape))
    return jnp.concatenate([u * s, v.T])


def _unpacked(packed: jax.Array, matrices: Matrices, tau: jax.Array) -> tuple[jax.Array, jax.Array]:
    """U diag(s) (k, m, r) and V' (k, r, n) of a leaf's k matrices."""
    stack, m = matrices.split(packed), matrices.split(tau).shape[1]
    return stack[:, :m], jnp.swapaxes(stack[:, m:], 1, 2)


def _squares(left: jax.Array) -> jax.Array:
    """The squared norm of every column of a matrix: (1, r)."""
    return jnp.sum(left * left, axis=0, keepdims=True)


def _added(
    matrices: Matrices,
    left: jax.Array,
    right: jax.Array,
    new: tuple[jax.Array, jax.Array],
    squares: jax.Array,
    tasks: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """One leaf's state after adding the components of one more task.

    Args:
      left, right: the leaf's previous state.
      new: U diag(s) and V' of all components of the task.
      squares: the squared singular values previously in the slots: (k, r) for k matrices.
      tasks: number of previous tasks.
    """
    old = matrices.split(left), matrices.split(right)
    slots = _slots(squares, jnp.sum(new[0][..., 0] ** 2, axis=1), tasks)

    def filled(old: jax.Array, new: jax.Array, axis: int, slots: jax.Array) -> jax.Array:
        empty = jnp.zeros_like(jax.lax.slice_in_dim(new, 0, 1, axis=axis))
        return jnp.take_along_axis(jnp.concatenate([old, new, empty], axis), slots, axis)

    return (
        matrices.join(filled(old[0], new[0], 2, slots[:, None])),
        matrices.join(filled(old[1], new[1], 1, slots[:, :, None])),
    )


def _slots(squares: jax.Array, first: jax.Array, tasks: jax.Array) -> jax.Array:
    """What goes into each of r slots: an index into the old ones, the new ones and an empty one.

    Args:
      squares: (k, r), the old slots' squared singular values.
      first: (k,), the square of the new task's first singular value.
      tasks: number of previous tasks.

    Returns:
      int32 (k, r).
    """
    r = squares.shape[1]
    before, kept = r // jnp.maximum(tasks, 1), r // (tasks + 1)
    slot = jnp.arange(r)
    task, component = slot // jnp.maximum(kept, 1), slot % jnp.maximum(kept, 1)
    old = jnp.where(task < tasks, task * before + component, 2 * r)
    shared = jnp.where(task == tasks, r + component, old)
    # More tasks than slots: the new task's first component replaces the smallest.
    least = jnp.argmin(jnp.concatenate([squares, first[:, None]], axis=1), axis=1)
    crowded = slot + (slot >= least[:, None])
    return jnp.where(kept > 0, shared, crowded)


def _combined(left: jax.Array, right: jax.Array) -> jax.Array:
    """The merged matrix (m, n) from U diag(s) (m, r) and V' (r, n)."""
    squares = _squares(left)[0]
    # The root has no derivative at a component without a weight.
    norms = jnp.sqrt(jnp.where(squares > 0, squares, 1.0))
    empty = jnp.sum(right * right, axis=1) == 0
    u, v = _completed(left / norms, empty), _completed(right.T, empty).T
    return orthogonalised(u, jnp.where(squares > 0, norms, 0.0), v)


def _completed(x: jax.Array, empty: jax.Array) -> jax.Array:
    """The columns of x (m, r), with the empty ones (the last) replaced by orthogonal columns.

    The nearest orthogonal columns to the others are unchanged, and unlike a rank-deficient matrix
    the result has a derivative.
    """
    return jnp.where(empty, jax.lax.stop_gradient(jnp.linalg.qr(x)[0]), x)
