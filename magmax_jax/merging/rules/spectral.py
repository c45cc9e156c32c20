"""Rules that treat a weight matrix as a matrix, through its singular values and vectors.

All of these rules have three options that say which leaves are matrices:

- `maps` lists the leaves that hold the matrices of linear maps, and their layout: a model knows its
  own (`linear_maps()` of the models here). A run passes those of its model.
- Without it, `matrices="by_name"` treats every leaf with two axes as a matrix, except those named
  like embeddings, norms or biases; query, key and value side by side count as three (see
  `merging.linear_maps`). Files are merged this way. `matrices="by_shape"` treats every leaf with
  two axes as one matrix, including embedding tables.
- A leaf whose name contains one of `averaged` is not a matrix.

The published codes differ. Those of `iso_c` and `tsv_m` (danielm1405/iso-merging,
AntoAndGar/task_singular_vectors) decompose every tensor with two axes of an OpenCLIP model,
including the position embedding, the visual projection, and query, key and value as one matrix, but
not text_projection, and average the rest, such as the patch convolution: that is
`matrices="by_shape", averaged=("text_projection",)` for a model with OpenCLIP's names. An embedding
table treated as a matrix loses its few large columns, on which all others rely. The code of `opcm`
(fusion_bench) projects only `nn.Linear`s, query, key and value separately, and adds the rest: for a
model with Hugging Face's names that is the default here with `others="added"`.

With `stacked=True` a leaf with three axes is a stack of matrices along the first, as scanned
transformer blocks are stored, and each of its matrices is treated separately; without it such a
leaf (a convolution, say) is not a matrix. With `maps`, each leaf's entry decides instead. Singular
values are the same for a matrix and its transpose, so kernels may be stored either way. Products
are computed at the device's highest precision.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.merging.linear_maps import Finder, Maps, Said
from magmax_jax.merging.numerics.decomposition import leading_svd, nearest_orthogonal
from magmax_jax.merging.numerics.over_tasks import EachTask, sum_over
from magmax_jax.merging.numerics.reductions import fixed_sum, squared_norm
from magmax_jax.merging.rule import (
    Counted,
    MergeRule,
    Settle,
    collecting,
    factory,
    leafwise_at,
    leafwise_collected,
)
from magmax_jax.merging.rules.elementwise import average
from magmax_jax.merging.rules.matrices import Find, by_matrix, each_matrix_of_tasks, facts_of
from magmax_jax.merging.task_vectors import PyTree, is_merged, zeros
from magmax_jax.packages.lazy_jax import jax, jit, jnp
from magmax_jax.registry import RULES


def product(*matrices: jax.Array) -> jax.Array:
    """The matrix product, in full float32."""
    return jnp.linalg.multi_dot(matrices, precision="highest")


@RULES.register("iso_c")
@factory
def iso_c(
    stacked: bool = False,
    averaged: Sequence[str] = (),
    matrices: Said = "by_name",
    maps: Maps | None = None,
) -> MergeRule:
    """The sum of the task vectors, with the spectrum of every matrix flattened.

        sum_t tau_t = U diag(s) V',    tau = mean(s) U V'

    Iso-C, Marczak et al., 2025 (arXiv 2502.04959). Leaves that are not matrices are averaged.
    Default scale 1; the paper picks it on validation data, fusion_bench's example has 1.5. State:
    one task vector and a counter. Order affects only rounding.

    Args:
      stacked: treat leaves with three axes as stacks of matrices.
      averaged: substrings of the names of matrices to average instead.
      matrices: how to treat leaves with two axes, "by_name" or "by_shape".
      maps: the leaves that hold matrices of linear maps, instead of `stacked` and `matrices`.

    Raises:
      UserError: an option is invalid.
    """
    return _iso_c(Finder.checked(matrices, stacked, averaged, maps))


@functools.cache
def _iso_c(find: Find) -> MergeRule:
    def flatten(total: jax.Array) -> jax.Array:
        nearest, s = nearest_orthogonal(total)
        return fixed_sum(s) / len(s) * nearest

    of_matrix = by_matrix(flatten, find)

    def finalize(state: Counted) -> PyTree:
        share = 1.0 / jnp.maximum(state.count, 1)

        def merge(name: str, total: jax.Array) -> jax.Array:
            each = of_matrix(name, total.shape)
            return total * share if each is None else each(total)

        return leafwise_at(merge, state.tau)

    return average()._replace(
        finalize=finalize,
        **facts_of(_iso_c, find),
    )


Others = Literal["averaged", "added"]


class Projected(NamedTuple):
    """State of `opcm`.

    Attributes:
      tau: the sum of the projected task vectors, not yet rescaled; for leaves without matrices, the
        sum of the task vectors themselves.
      norms: the sum of the task vectors' norms, float32 scalar.
      count: tasks seen, int32 scalar.
    """

    tau: PyTree
    norms: jax.Array
    count: jax.Array  # type: ignore[assignment]  # part of saved states; tuple.count is not called


@RULES.register("opcm")
@factory
def opcm(
    alpha: float = 0.5,
    rescale: float | None = None,
    stacked: bool = False,
    averaged: Sequence[str] = (),
    matrices: Said = "by_name",
    maps: Maps | None = None,
    others: Others = "averaged",
) -> MergeRule:
    """OPCM: add the part of each task vector orthogonal to the merge, at an average task's norm.

        m_1 = tau_1,    m_t = m_{t-1} + U P V'
        m_{t-1} = U diag(s) V',    P = U' tau_t V, but P_ii = 0 for all i, P_ij = 0 for i, j <= r
        tau = m_T mean_t |tau_t| / |m_T|,    norms over all entries of all leaves

    Orthogonal Projection-based Continual Merging, Tang et al., 2025 (arXiv 2501.09522) as in the
    authors' fusion_bench: r is one less than the number of leading singular values that together
    exceed the share alpha of their sum (its documentation has r one larger). The authors rescale
    after every task; that cancels in the next one, so here it is done once, at the end. Matrices
    that no task has changed yet are added. Default scale 1. State: one task vector and two numbers.
    Order matters.

    Leaves that are not matrices are averaged here, and added in the published code
    (`others="added"`). Weight decay alone moves the large position embedding of a CLIP far, the
    same way in every task of a sequential run. The sum of its changes then outweighs all matrices
    in |m_T|, and the rescaling shrinks all leaves alike to compensate.

    Args:
      alpha: in [0, 1]: the larger, the larger the block that is removed.
      rescale: mean_t |tau_t| / |m_T|, for callers that merge leaf by leaf: see `opcm_rescale`.
      stacked: treat leaves with three axes as stacks of matrices.
      averaged: substrings of the names of leaves to treat as non-matrices.
      matrices: how to treat leaves with two axes, "by_name" or "by_shape".
      maps: the leaves that hold matrices of linear maps, instead of `stacked` and `matrices`.
      others: how leaves that are not matrices are merged, "averaged" or "added".

    Raises:
      UserError: alpha is outside [0, 1], or an option is invalid.
    """
    if not 0 <= alpha <= 1:
        raise UserError(f"opcm: alpha is {alpha}: it must be in [0, 1]")
    if others not in ("averaged", "added"):
        raise UserError(f"opcm: others is {others!r}: choose averaged or added")
    return _opcm(alpha, rescale, others, Finder.checked(matrices, stacked, averaged, maps))


@functools.cache
def _opcm(alpha: float, rescale: float | None, others: Others, find: Find) -> MergeRule:
    def project(merged: jax.Array, tau: jax.Array) -> jax.Array:
        u, s, v = leading_svd(merged, min(merged.shape))
        within = product(u.T, tau, v.T)  # (k, k), k the shorter side; outside it P is unchanged
        shares = jnp.cumsum(s) / jnp.where(s[0] > 0, jnp.sum(s), 1.0)
        i = jnp.arange(len(s))
        leading = i < jnp.argmax(shares > alpha)
        removed = (i[:, None] == i) | (leading[:, None] & leading)
        along = product(u, jnp.where(removed, within, 0.0), v)
        return merged + jnp.where(s[0] > 0, tau - along, tau)

    of_matrix = by_matrix(project, find)

    def update(state: Projected, tau: PyTree) -> Projected:
        def add(name: str, merged: jax.Array, tau: jax.Array) -> jax.Array:
            each = of_matrix(name, merged.shape)
            if each is None:
                return merged + tau
            first = lambda merged, tau: tau  # noqa: E731
            return jax.lax.cond(state.count == 0, first, each, merged, tau)

        merged = leafwise_at(add, state.tau, tau)
        return Projected(merged, state.norms + _norm(tau), state.count + 1)

    def merged(state: Projected) -> PyTree:
        """m_T, with leaves without matrices merged too."""
        if others == "added":
            return state.tau
        share = 1.0 / jnp.maximum(state.count, 1)

        def of_leaf(name: str, merged: jax.Array) -> jax.Array:
            return merged * share if find.of(name, merged.shape) is None else merged

        return leafwise_at(of_leaf, state.tau)

    def finalize(state: Projected) -> PyTree:
        tau = merged(state)
        if rescale is None:
            factor = _rescale(state.norms, state.count, _norm(tau))
        else:
            # Behind a barrier, because the compiler reorders products with a known number.
            factor = jax.lax.optimization_barrier(jnp.float32(rescale))
        return leafwise_at(lambda name, leaf: leaf * factor, tau)

    def init(pretrained: PyTree) -> Projected:
        return Projected(zeros(pretrained), jnp.float32(0), jnp.int32(0))

    def measure(state: Projected, norms: Sequence[jax.Array]) -> jax.Array:
        (leaf,) = jax.tree.leaves(merged(state))
        return jnp.stack([*norms, squared_norm(leaf)])

    def complete(measured: Mapping[str, np.ndarray]) -> MergeRule:
        *tasks, found = np.stack([measured[name] for name in sorted(measured)], axis=1)
        return _opcm(alpha, float(opcm_rescale(tasks, found)), others, find).on_any_mesh()

    return MergeRule(
        init,
        update,
        finalize,
        streaming=True,
        default_scale=1.0,
        settle=Settle(measure, complete) if rescale is None else None,
        **facts_of(functools.partial(_opcm, alpha, rescale, others), find, others),
    )


def opcm_rescale(
    tasks: Sequence[Sequence[jax.typing.ArrayLike]], merged: Sequence[jax.typing.ArrayLike]
) -> jax.Array:
    """The `rescale` of `opcm` from per-leaf norms: float32 scalar.

    Args:
      tasks: for every task, the `squared_norm` of each leaf of its task vector.
      merged: the `squared_norm` of each leaf of the merge by the rule with `rescale=1`, with leaves
        in the same order.
    """
    norms = sum(jnp.sqrt(sum(leaves)) for leaves in tasks)
    return _rescale(jnp.asarray(norms), len(tasks), jnp.sqrt(sum(merged)))


@RULES.register("tsv_m")
@factory
def tsv_m(
    stacked: bool = False,
    averaged: Sequence[str] = (),
    matrices: Said = "by_name",
    maps: Maps | None = None,
) -> MergeRule:
    """The leading singular vectors of all tasks, made orthogonal to each other.

        tau_t = U_t diag(s_t) V_t',    keeping the first k = floor(r / T) of r components
        U = [U_1 ... U_T],  V = [V_1 ... V_T],  s = [s_1 ... s_T]
        tau = U~ diag(s) V~',    U~ = P Q' the orthogonal matrix nearest to U = P diag(q) Q' (SVD)

    TSV-Merge, Gargiulo et al., 2025 (arXiv 2412.00081). Leaves that are not matrices are averaged.
    With more tasks than components (r < T) each keeps one, where the official code keeps none.
    Default scale 1. Collects all task vectors. Order affects only rounding.

    Args:
      stacked: treat leaves with three axes as stacks of matrices.
      averaged: substrings of the names of matrices to average instead.
      matrices: how to treat leaves with two axes, "by_name" or "by_shape".
      maps: the leaves that hold matrices of linear maps, instead of `stacked` and `matrices`.

    Raises:
      UserError: an option is invalid.
    """
    return _tsv_m(Finder.checked(matrices, stacked, averaged, maps))


@functools.cache
def _tsv_m(find: Find) -> MergeRule:
    def combine(*taus: jax.Array) -> jax.Array:
        kept = max(1, min(taus[0].shape) // len(taus))
        parts = [leading_svd(tau, kept) for tau in taus]
        u = jnp.concatenate([u for u, _, _ in parts], axis=1)
        s = jnp.concatenate([s for _, s, _ in parts])
        v = jnp.concatenate([v for _, _, v in parts], axis=0)
        return orthogonalised(u, s, v)

    def combine_stack(taus: jax.Array) -> jax.Array:
        count, m, n = taus.shape
        kept = max(1, min(m, n) // count)
        u, s, v = jax.lax.map(lambda tau: leading_svd(tau, kept), taus)
        side_by_side = jnp.swapaxes(u, 0, 1).reshape(m, count * kept)
        return orthogonalised(side_by_side, s.reshape(-1), v.reshape(count * kept, n))

    of_matrix = by_matrix(combine, find)
    of_matrices = by_matrix(combine_stack, find, each_matrix_of_tasks)

    def merge(name: str, leaves: EachTask) -> jax.Array:
        share = 1.0 / jnp.float32(len(leaves))
        if isinstance(leaves, jax.Array):
            merged = of_matrices(name, leaves.shape[1:])
            return _sum(leaves) * share if merged is None else merged(leaves)
        merged = of_matrix(name, leaves[0].shape)
        return jnp.asarray(sum(leaves) * share) if merged is None else merged(*leaves)

    return collecting(
        lambda taus: leafwise_collected(merge, taus),
        default_scale=1.0,
        stacks=True,
        **facts_of(_tsv_m, find),
    )


def orthogonalised(u: jax.Array, s: jax.Array, v: jax.Array) -> jax.Array:
    """U~ diag(s) V~', U~ and V~ the nearest orthogonal to U; shapes U (m, r), s (r,), V' (r, n)."""
    (u, _), (v, _) = nearest_orthogonal(u), nearest_orthogonal(v)
    return product(u * s, v)


@jit
def _sum(taus: jax.Array) -> jax.Array:
    return jnp.asarray(sum_over(lambda tau: tau, taus))


def _rescale(norms: jax.Array, count: jax.typing.ArrayLike, norm: jax.Array) -> jax.Array:
    # One division: the compiler may turn (a / b) / c into a / (b c), which rounds differently.
    return jnp.where(norm > 0, norms / (count * jnp.where(norm > 0, norm, 1.0)), 1.0)


def _norm(tau: PyTree) -> jax.Array:
    return jnp.sqrt(sum(squared_norm(leaf) for leaf in jax.tree.leaves(tau) if is_merged(leaf)))
