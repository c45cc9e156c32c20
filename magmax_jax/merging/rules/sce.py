"""SCE: select by variance, weigh by energy, erase the minority's signs."""

from __future__ import annotations

from magmax_jax.errors import UserError
from magmax_jax.merging.numerics.over_tasks import EachTask, each, sum_over
from magmax_jax.merging.numerics.reductions import squared_norm
from magmax_jax.merging.numerics.selection import kth_magnitude
from magmax_jax.merging.rule import MergeRule, collecting, factory, leafwise_collected
from magmax_jax.merging.rules.thinning import largest
from magmax_jax.packages.lazy_jax import jax, jit, jnp
from magmax_jax.registry import RULES

LEAST = 1e-6
"""Mean squares that add up to less give equal weights, and no divisor is smaller, as in
mergekit."""


@RULES.register("sce")
@factory
def sce(select_topk: float = 1.0) -> MergeRule:
    """SCE: the entries on which models differ most, weighted by each model's energy.

        S: keep the int(select_topk m) entries of largest variance over the models; m entries have
           a variance above zero
        C: w_i = mean square of the kept tau_i over the tensor, divided by the sum over models
        E: tau = sum_i c_i w_i tau_i / max(sum_i c_i w_i, 1e-6),    c_i as in
           `sparse_task_arithmetic` with consensus and weights of 1

    Wan et al., 2024 (arXiv 2408.07990), per tensor as in mergekit 0.1.5, which gives every model
    the same weight if the mean squares add up to less than 1e-6: the rule for small fine-tunes.
    With select_topk < 1 entries on which all models agree are dropped, so that one model merges to
    theta_0. Default scale 1. Collects all task vectors. Order affects only rounding.

    Args:
      select_topk: the share of varying entries to keep.

    Raises:
      UserError: it is negative or not a number.
    """
    if not 0 <= select_topk < float("inf"):
        raise UserError(f"sce: select_topk is {select_topk}: give a number from 0 up")

    def merge(_: str, taus: EachTask) -> jax.Array:
        if select_topk < 1:
            variance = _variance(taus)
            keep = _share(jnp.count_nonzero(variance), select_topk)
            threshold = kth_magnitude(variance, variance.size + 1 - keep)
            kept = largest(variance, threshold, keep)
            taus = _only(kept, taus)
        return _merge(taus)

    return collecting(
        lambda taus: leafwise_collected(merge, taus),
        default_scale=1.0,
        stacks=True,
        scope="tensor",
        reads_names=False,
    )


def _share(count: jax.Array, share: float) -> jax.Array:
    """int(share count) in float64, as mergekit computes it; traced, in float32, JAX's default."""
    if isinstance(count, jax.core.Tracer):
        return jnp.floor(count * jnp.float32(share)).astype(jnp.int32)
    return jnp.int32(int(int(count) * share))


@jit
def _variance(taus: EachTask) -> jax.Array:
    return jnp.var(jnp.stack(taus), axis=0)


def _only(kept: jax.Array, taus: EachTask) -> EachTask:
    if isinstance(taus, jax.Array):
        return jnp.where(kept, taus, 0.0)
    return tuple(jnp.where(kept, tau, 0.0) for tau in taus)


@jit
def _merge(taus: EachTask) -> jax.Array:
    energy = each(lambda tau: squared_norm(tau) / max(tau.size, 1), taus)
    total = sum_over(lambda tau, one: one, taus, energy)
    small = total < LEAST
    weights = jnp.where(small, 1.0 / len(taus), energy / jnp.where(small, 1.0, total))
    plus = sum_over(lambda tau: tau, taus) >= 0

    def agreeing(tau: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        used = jnp.where(jnp.where(plus, tau > 0, tau < 0), weight, 0.0)
        return used * tau, used

    merged, used = sum_over(agreeing, taus, weights)
    return jnp.asarray(merged) / jnp.maximum(used, LEAST)
