"""Rules of arcs and directions of whole tensors, as mergekit has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from magmax_jax.errors import UserError
from magmax_jax.merging.numerics.over_tasks import EachTask, each, sum_over
from magmax_jax.merging.numerics.reductions import inner, squared_norm
from magmax_jax.merging.rule import (
    Collected,
    MergeRule,
    collected,
    collecting,
    factory,
    leafwise,
    leafwise_collected,
)
from magmax_jax.merging.rules.weights import check_weights
from magmax_jax.merging.task_vectors import PyTree
from magmax_jax.packages.lazy_jax import jax, jit, jnp
from magmax_jax.registry import RULES

SMALL_SUM = 1e-6
"""Two weights whose sum is smaller in magnitude count as equal, as in mergekit."""
Angles = Literal["tensor", "rows", "columns"]


@RULES.register("nuslerp")
@factory
def nuslerp(
    weights: Sequence[float] = (1.0, 1.0), whole: bool = False, angles: Angles = "tensor"
) -> MergeRule:
    """The arc between two models, at the position that their weights give: mergekit's NuSLERP.

        tau = sin((1 - t) a) / sin(a) tau_1 + sin(t a) / sin(a) tau_2,    t = w_2 / (w_1 + w_2)

    As `slerp`, and as mergekit 0.1.5: a straight line only where the cosine is 1 or -1 in float32;
    a change of zero is at 90 degrees from any other; t is 0.5 if the weights' sum is below 1e-6 in
    magnitude. Default scale 1. Collects exactly two task vectors. Order pairs them with their
    weights.

    Args:
      weights: w_1 and w_2, of any sign.
      whole: whole weights about the origin, from theta_0, which is the first model, to the second
        one, the only task vector.
      angles: one angle per "tensor", or for each of its "rows" (last axis) or "columns" (first axis
        exchanged with the last).

    Raises:
      UserError: there are not two finite weights, or an unknown kind of angles; or, when merging,
        the number of models is wrong.
    """
    if len(weights) != 2 or not all(abs(w) < float("inf") for w in weights):
        raise UserError(f"nuslerp: weights are {weights}: give two finite numbers")
    if angles not in ("tensor", "rows", "columns"):
        raise UserError(f"nuslerp: angles is {angles!r}: choose tensor, rows or columns")
    total = sum(weights)
    share = 0.5 if abs(total) < SMALL_SUM else weights[1] / total

    def turn(models: EachTask) -> jax.Array:
        a, b = models
        if angles == "columns" and a.ndim:
            return jnp.swapaxes(
                arc(*(jnp.swapaxes(x, 0, -1) for x in models), share, None, True), 0, -1
            )
        return arc(a, b, share, None, by_row=angles != "tensor")

    if whole:
        return about_zero(turn, "nuslerp", fewest=1, most=1)

    return of_two(lambda *pair: turn(pair), "nuslerp")


@RULES.register("multislerp")
@factory
def multislerp(
    weights: Sequence[float] | None = None,
    whole: bool = False,
    normalize: bool = True,
    eps: float = 1e-8,
) -> MergeRule:
    """The weighted mean direction of the task vectors, at their weighted mean length.

        d = sum_i w_i tau_i / |tau_i|,    tau = d / |d| sum_i w_i |tau_i|,    w of sum 1

    mergekit 0.1.5's Multi-SLERP. Its barycentric step in the tangent space starts at the weighted
    mean, where it vanishes, so this is a normalised linear mean: for two models it is not `slerp`.
    Two directions that cancel (|d| < eps) give the weighted mean of the vectors; more of them are
    refused. A single model is itself. Default scale 1. Collects all task vectors. Order pairs them
    with their weights.

    Args:
      weights: one per task, of any sign; 1 by default. With `whole` the first is theta_0's.
      whole: whole weights about the origin, theta_0 being the first of the models.
      normalize: divide the weights by their sum.
      eps: added to the norms that divide, and the least |d|.

    Raises:
      UserError: the weights are not finite, or sum to zero where they are normalised; or, when
        merging, there are more models than weights, or directions of three or more cancel.
    """
    check_weights("multislerp", weights, normalize)

    def merge(models: EachTask) -> jax.Array:
        if weights is not None and len(models) > len(weights):
            raise UserError(
                f"multislerp: {len(weights)} weights for {len(models)} models: give one for each"
            )
        if len(models) == 1:
            return models[0]
        w = jnp.array(weights[: len(models)] if weights else [1.0] * len(models), jnp.float32)
        merged, cancel = _mean_direction(models, w, normalize, eps)
        if len(models) > 2 and not isinstance(cancel, jax.core.Tracer) and cancel:
            raise UserError(
                "multislerp: the directions of a tensor's changes cancel, so their mean has none: "
                "choose other weights"
            )
        return merged

    if whole:
        most = None if weights is None else len(weights) - 1
        return about_zero(merge, "multislerp", fewest=0 if most == 0 else 1, most=most)
    return collecting(
        lambda taus: leafwise_collected(lambda _, models: merge(models), taus),
        default_scale=1.0,
        stacks=True,
        scope="tensor",
        reads_names=False,
        most_models=None if weights is None else len(weights),
        per_model=None if weights is None else "weights",
    )


@partial(jit, static_argnames="normalize")
def _mean_direction(
    models: EachTask, weights: jax.Array, normalize: bool, eps: float
) -> tuple[jax.Array, jax.Array]:
    if normalize:
        weights = weights / sum_over(lambda model, w: w, models, weights)
    norms = each(lambda model: jnp.sqrt(squared_norm(model)), models)

    def parts(model: jax.Array, w: jax.Array, norm: jax.Array) -> tuple[jax.Array, ...]:
        return w * (model / (norm + eps)), w * model, w * norm

    mean, linear, size = map(jnp.asarray, sum_over(parts, models, weights, norms))
    length = jnp.sqrt(squared_norm(mean))
    cancel = length < eps
    return jnp.where(cancel, linear, mean / jnp.where(cancel, 1.0, length) * size), cancel


def of_two(merge: Callable[[jax.Array, jax.Array], jax.Array], name: str) -> MergeRule:
    """A rule of exactly two task vectors, merged tensor by tensor."""

    def finalize(taus: tuple[PyTree, ...]) -> PyTree:
        if len(taus) != 2:
            raise UserError(f"{name} merges exactly two models: give two, not {len(taus)}")
        return leafwise(merge, *taus)

    return collecting(
        finalize,
        default_scale=1.0,
        scope="tensor",
        reads_names=False,
        fewest_models=2,
        most_models=2,
    )


def about_zero(
    merge: Callable[[EachTask], jax.Array], name: str, fewest: int, most: int | None
) -> MergeRule:
    """A rule of whole weights: merges theta_0 and the models, and returns the change from theta_0.

    Its state is the tuple of theta_0 and all task vectors.
    """

    def change(_: str, theta_0: jax.Array, taus: EachTask) -> jax.Array:
        base = jnp.asarray(theta_0, jnp.float32)
        base = jnp.where(jnp.isneginf(base), 0.0, base)  # masks: no model differs there
        if isinstance(taus, jax.Array):
            return merge(jnp.concatenate([base[None], base + taus])) - base
        return merge((base, *(base + tau for tau in taus))) - base

    def finalize(state: Collected) -> PyTree:
        count = collected(state, with_theta_0=True)
        if count < fewest or (most is not None and count > most):
            raise UserError(f"{name} merges theta_0 with {most} more models, not {count}")
        return leafwise_collected(change, state, with_theta_0=True)

    return collecting(
        finalize,
        default_scale=1.0,
        with_theta_0=True,
        stacks=True,
        scope="tensor",
        reads_names=False,
        fewest_models=fewest,
        most_models=most,
    )


@partial(jit, static_argnames=("parallel", "by_row"))
def arc(
    a: jax.Array,
    b: jax.Array,
    share: jax.typing.ArrayLike,
    parallel: float | None = None,
    by_row: bool = False,
) -> jax.Array:
    """The point at `share` of the arc from a to b.

    Args:
      parallel: the magnitude of the cosine beyond which the arc is a straight line; None for 1 in
        float32.
      by_row: one angle per row (last axis).
    """
    norms = jnp.sqrt(inner_products(a, a, by_row)), jnp.sqrt(inner_products(b, b, by_row))
    units = [x / jnp.where(n > 0, n, 1.0) for x, n in zip((a, b), norms, strict=True)]
    c = jnp.clip(inner_products(units[0], units[1], by_row), -1.0, 1.0)
    straight = c * c >= 1 if parallel is None else jnp.abs(c) > parallel
    angle = jnp.arccos(jnp.where(straight, 0.0, c))
    from_a = jnp.where(straight, 1 - share, jnp.sin((1 - share) * angle) / jnp.sin(angle))
    from_b = jnp.where(straight, share, jnp.sin(share * angle) / jnp.sin(angle))
    return from_a * a + from_b * b


def inner_products(a: jax.Array, b: jax.Array, by_row: bool) -> jax.Array:
    """The inner product of two arrays, or of each of their rows: a scalar, or (..., 1)."""
    if not by_row or not a.ndim:
        return inner(a, b)
    rows = jax.vmap(inner)(a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1]))
    return rows.reshape(*a.shape[:-1], 1)
