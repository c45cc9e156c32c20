"""Rules that take a weight matrix as a matrix: by its singular values and vectors.

Three options, which all of these rules have, say which leaves are matrices:

- `maps` lists the leaves that hold the matrices of linear maps, and how these lie in them: a model
  knows its own (`linear_maps()` of the models here). A run passes those of its model.
- Without it `matrices="by_name"` takes every leaf of two axes for a matrix, but for those whose
  names are those of embeddings, norms or biases, and query, key and value side by side for three
  (see `merging.linear_maps`). Files are merged this way. `matrices="by_shape"` takes every leaf of
  two axes for one matrix, including tables of embeddings.
- A leaf whose name contains one of `averaged` is none.

The published codes differ. Those of `iso_c` and `tsv_m` (danielm1405/iso-merging,
AntoAndGar/task_singular_vectors) decompose every tensor of two axes of an OpenCLIP model, the
position embedding, the visual projection and query, key and value as one matrix among them, but
not text_projection, and average the rest, such as the patches' convolution: that is
`matrices="by_shape", averaged=("text_projection",)` for a model of OpenCLIP's names. A table
of embeddings as a matrix loses its few large columns, on which all others rely. That of `opcm`
(fusion_bench) projects `nn.Linear`s alone, query, key and value by themselves, and adds the rest:
for a model of Hugging Face's names that is the default here with `others="added"`.

With `stacked=True` a leaf of three axes is a stack of matrices along its first, as transformer
blocks that are scanned over are stored, and every matrix of it is treated by itself; without it
such a leaf (a convolution, say) is none. `maps` say so for each leaf instead. Singular values know
no difference between a matrix and its transpose, so kernels may be stored either way. Products are
computed at the highest precision that the device has.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.merging.linear_maps import Finder, Maps, Said
from magmax_jax.merging.numerics.decomposition import leading_svd, nearest_orthogonal
from magmax_jax.merging.numerics.reductions import fixed_sum, squared_norm
from magmax_jax.merging.rule import Counted, MergeRule, Settle, collecting, factory, leafwise_at
from magmax_jax.merging.rules.elementwise import average
from magmax_jax.merging.rules.matrices import Find, by_matrix, facts_of
from magmax_jax.merging.task_vectors import PyTree, is_merged, zeros
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
    """The sum of the task vectors with every matrix's spectrum made flat.

        sum_t tau_t = U diag(s) V',    tau = mean(s) U V'

    Iso-C, Marczak et al., 2025 (arXiv 2502.04959). Leaves that are no matrices are averaged.
    Default scale 1; the paper picks it on validation data, fusion_bench's example has 1.5. State:
    one task vector and a counter. Order does not matter, but for rounding.

    Args:
      stacked: treat leaves of three axes as stacks of matrices.
      averaged: parts of names of leaves to average although they are matrices.
      matrices: what leaves of two axes are, "by_name" or "by_shape".
      maps: the leaves that hold matrices of linear maps, instead of `stacked` and `matrices`.

    Raises:
      UserError: an option is none of these.
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
      tau: the sum of the projected task vectors, not yet rescaled; that of the task vectors
        themselves where a leaf holds no matrices.
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
    """OPCM: add of every task vector what does not lie along the merged one, at a task's norm.

        m_1 = tau_1,    m_t = m_{t-1} + U P V'
        m_{t-1} = U diag(s) V',    P = U' tau_t V, but P_ii = 0 for all i, P_ij = 0 for i, j <= r
        tau = m_T mean_t |tau_t| / |m_T|,    norms over all entries of all leaves

    Orthogonal Projection-based Continual Merging, Tang et al., 2025 (arXiv 2501.09522) as in the
    authors' fusion_bench: r is one less than the number of leading singular values that together
    exceed the share alpha of their sum (its documentation has r one larger). They rescale after
    every task; the rescaling cancels in the next, so it is done once, at the end. Matrices that no
    task has changed yet are added. Default scale 1. State: one task vector and two numbers. Order
    matters.

    Leaves that are no matrices are averaged here, and added in the published code
    (`others="added"`). Weight decay alone moves the large position embedding of a CLIP far, the
    same way in every task of a sequential run. The sum of its changes then outweighs all matrices
    in |m_T|, which the norm takes back from all leaves alike.

    Args:
      alpha: in [0, 1]: the more, the larger the block that is removed.
      rescale: mean_t |tau_t| / |m_T|, for callers who merge leaf by leaf: see `opcm_rescale`.
      stacked: treat leaves of three axes as stacks of matrices.
      averaged: parts of names of leaves that are no matrices.
      matrices: what leaves of two axes are, "by_name" or "by_shape".
      maps: the leaves that hold matrices of linear maps, instead of `stacked` and `matrices`.
      others: what becomes of leaves that are no matrices, "averaged" or "added".

    Raises:
      UserError: alpha is outside [0, 1], or an option is none of these.
    """
    if not 0 <= alpha <= 1:
        raise UserError(f"opcm: alpha is {alpha}, not in [0, 1]")
    if others not in ("averaged", "added"):
        raise UserError(f"opcm: others is {others!r}: choose averaged or added")
    return _opcm(alpha, rescale, others, Finder.checked(matrices, stacked, averaged, maps))


@functools.cache
def _opcm(alpha: float, rescale: float | None, others: Others, find: Find) -> MergeRule:
    def project(merged: jax.Array, tau: jax.Array) -> jax.Array:
        u, s, v = leading_svd(merged, min(merged.shape))
        within = product(u.T, tau, v.T)  # (k, k), k the shorter side; outside of it P is untouched
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
        """m_T, with what becomes of leaves without matrices."""
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
            # Behind a barrier, for the compiler reorders products with a number that it knows.
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
    """The `rescale` of `opcm` out of what callers learn leaf by leaf: float32 scalar.

    Args:
      tasks: of every task, the `squared_norm` of each leaf of its task vector.
      merged: the `squared_norm` of each leaf of what the rule with `rescale=1` makes of its state,
        in the same order of leaves.
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

        tau_t = U_t diag(s_t) V_t',    of which the first k = floor(r / T) of r components are kept
        U = [U_1 ... U_T],  V = [V_1 ... V_T],  s = [s_1 ... s_T]
        tau = U~ diag(s) V~',    U~ the orthogonal matrix nearest to U: of its SVD P diag(q) Q', P
        Q'

    TSV-Merge, Gargiulo et al., 2025 (arXiv 2412.00081). Leaves that are no matrices are averaged.
    With more tasks than components (r < T) each keeps one, where the official code keeps none.
    Default scale 1. Collects all task vectors. Order does not matter, but for rounding.

    Args:
      stacked: treat leaves of three axes as stacks of matrices.
      averaged: parts of names of leaves to average although they are matrices.
      matrices: what leaves of two axes are, "by_name" or "by_shape".
      maps: the leaves that hold matrices of linear maps, instead of `stacked` and `matrices`.

    Raises:
      UserError: an option is none of these.
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

    of_matrix = by_matrix(combine, find)

    def finalize(taus: tuple[PyTree, ...]) -> PyTree:
        def merge(name: str, *leaves: jax.Array) -> jax.Array:
            each = of_matrix(name, leaves[0].shape)
            if each is None:
                return sum(leaves) * (1.0 / jnp.float32(len(leaves)))
            return each(*leaves)

        return leafwise_at(merge, *taus)

    return collecting(
        finalize,
        default_scale=1.0,
        **facts_of(_tsv_m, find),
    )


def orthogonalised(u: jax.Array, s: jax.Array, v: jax.Array) -> jax.Array:
    """U~ diag(s) V~', of U (m, r), s (r,) and V' (r, n): the orthogonal ones nearest to U and V."""
    (u, _), (v, _) = nearest_orthogonal(u), nearest_orthogonal(v)
    return product(u * s, v)


def _rescale(norms: jax.Array, count: jax.typing.ArrayLike, norm: jax.Array) -> jax.Array:
    # One division: the compiler may turn (a / b) / c into a / (b c), which rounds otherwise.
    return jnp.where(norm > 0, norms / (count * jnp.where(norm > 0, norm, 1.0)), 1.0)


def _norm(tau: PyTree) -> jax.Array:
    return jnp.sqrt(sum(squared_norm(leaf) for leaf in jax.tree.leaves(tau) if is_merged(leaf)))
