"""Rules for tasks learned in sequence, each from the previous task's weights.

Here tau_t holds the changes of all tasks up to t: tau_T alone is a merge of sorts, and the step of
task t is delta_t = tau_t - tau_(t-1), with tau_0 = 0.
"""

from __future__ import annotations

from typing import NamedTuple

from magmax_jax.errors import UserError
from magmax_jax.merging.rule import MergeRule, factory, leafwise
from magmax_jax.merging.rules.elementwise import ENTRYWISE
from magmax_jax.merging.task_vectors import PyTree, zeros
from magmax_jax.packages.lazy_jax import jax, jnp
from magmax_jax.registry import RULES


class Increments(NamedTuple):
    """State of `max_increment`: the largest step of every entry, and the last task vector."""

    tau: PyTree
    last: PyTree


@RULES.register("scaled_last")
@factory
def scaled_last() -> MergeRule:
    """The last task vector: theta_T scaled back towards theta_0, with no merging at all.

        tau = tau_T

    WiSE-FT, Wortsman et al., 2022 (arXiv 2109.01903), over time: at scale lambda the model is
    (1 - lambda) theta_0 + lambda theta_T. A control for every rule: a rule that does not beat it
    gains nothing by merging. Default scale 0.5, which the paper recommends without data to choose
    by. State: one task vector. Only order matters; of models fine-tuned independently, it keeps
    just the last.
    """

    def replace(last: jax.Array, tau: jax.Array) -> jax.Array:
        # Not simply `tau`: the buffer of an unused state could not be reused for the next one.
        return jnp.where(True, tau, last)

    return MergeRule(
        zeros,
        lambda last, tau: leafwise(replace, last, tau),
        lambda last: last,
        streaming=True,
        default_scale=0.5,
        **ENTRYWISE,
    )


@RULES.register("max_increment")
@factory
def max_increment() -> MergeRule:
    """MagMax over steps: for each parameter, the largest change made by a single task.

        tau^p = delta_t*^p,    t* = the last of argmax_t |delta_t^p|,    delta_t = tau_t - tau_(t-1)

    Ours. The steps of sequential fine-tuning add up to tau_T, and `max_magnitude` of their partial
    sums mostly takes the latest. This takes one task's step for each parameter and drops the
    others', so its merge is shorter than tau_T; default scale 1. State: two task vectors. Order
    matters: models fine-tuned independently are not steps from one another, and delta_t would undo
    task t-1.
    """

    def init(pretrained: PyTree) -> Increments:
        return Increments(zeros(pretrained), zeros(pretrained))

    def update(state: Increments, tau: PyTree) -> Increments:
        def larger(merged: jax.Array, last: jax.Array, tau: jax.Array) -> jax.Array:
            step = tau - last
            return jnp.where(jnp.abs(step) >= jnp.abs(merged), step, merged)

        merged = leafwise(larger, state.tau, state.last, tau)
        return Increments(merged, leafwise(lambda last, tau: tau, state.last, tau))

    return MergeRule(
        init, update, lambda state: state.tau, streaming=True, default_scale=1.0, **ENTRYWISE
    )


@RULES.register("ema_magmax")
@factory
def ema_magmax(decay: float = 0.5) -> MergeRule:
    """MagMax with fading maxima: a larger change replaces the old maximum, a smaller one decays it.

        m_t^p = tau_t^p                                     where |tau_t^p| >= |m_(t-1)^p|
                decay m_(t-1)^p + (1 - decay) tau_t^p       elsewhere;        m_0 = 0,  tau = m_T

    Ours: `max_magnitude` is decay 1, and `scaled_last` decay 0. Where fine-tuning shrinks a change
    again, MagMax keeps the old extreme for ever, while an `ema` lags behind growth; this follows
    growth at once and shrinkage gradually. Default scale 0.5, that of MagMax. State: one task
    vector. Order matters.

    Args:
      decay: in [0, 1]: weight of the past where it was larger.

    Raises:
      UserError: decay is outside [0, 1].
    """
    if not 0 <= decay <= 1:
        raise UserError(f"ema_magmax: decay is {decay}: it must be in [0, 1]")

    def update(merged: PyTree, tau: PyTree) -> PyTree:
        def follow(merged: jax.Array, tau: jax.Array) -> jax.Array:
            # Behind a barrier: the compiler fuses products with their sum on some meshes only,
            # which changes the last bits.
            older, newer = jax.lax.optimization_barrier((decay * merged, (1 - decay) * tau))
            faded = older + newer
            return jnp.where(jnp.abs(tau) >= jnp.abs(merged), tau, faded)

        return leafwise(follow, merged, tau)

    return MergeRule(
        zeros, update, lambda merged: merged, streaming=True, default_scale=0.5, **ENTRYWISE
    )
