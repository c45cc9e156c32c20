"""The norm of a merge: max magnitude's grows with every task, an average's shrinks."""

from __future__ import annotations

from typing import NamedTuple

from magmax_jax.errors import UserError
from magmax_jax.merging.numerics.reductions import squared_norm
from magmax_jax.merging.rule import Informed, MergeRule, State, factory, leafwise
from magmax_jax.merging.rules.upon import RuleOrName, resolved, upon
from magmax_jax.merging.task_vectors import PyTree, zeros
from magmax_jax.packages.lazy_jax import jax, jnp
from magmax_jax.registry import RULES


class Matched(NamedTuple):
    """State of `norm_matched`.

    Attributes:
      state: the underlying rule's.
      norms: for every tensor, the sum of the task vectors' norms, float32 scalar.
      count: tasks seen, int32 scalar.
    """

    state: State
    norms: PyTree
    count: jax.Array  # type: ignore[assignment]  # part of saved states; tuple.count is not called


@RULES.register("norm_matched")
@factory
def norm_matched(rule: RuleOrName = "max_magnitude", seed: int = 0) -> MergeRule:
    """Another rule's merge, with every tensor rescaled to the average norm over tasks.

        tau = m mean_t |tau_t| / |m|,    m the rule's merge of tau_1 ... tau_T

    Ours: the last step of OPCM (arXiv 2501.09522), for any rule and tensor by tensor. OPCM takes
    norms over the whole model, which one table may dominate: weight decay moves large position
    embeddings further than training moves the rest. With this rule a given scale means the same
    distance from theta_0, whatever the rule and the number of tasks. A tensor is a leaf, so stacked
    layers share one norm. Default scale 1. State: the rule's, and a number per tensor. Order
    matters as it does for the rule.

    Args:
      rule: a streaming rule or its name.
      seed: for a rule given by name that draws at random.

    Raises:
      UserError: the rule is invalid, collects task vectors, or sets its own norm, as `opcm` does.
    """
    beneath = resolved(rule, seed)
    if not beneath.streaming:
        raise UserError("norm_matched: the rule collects all task vectors: give a streaming one")
    if beneath.settle:
        raise UserError("norm_matched: the rule already sets a norm: use it without norm_matched")

    def init(pretrained: PyTree) -> Matched:
        norms = leafwise(lambda leaf: jnp.float32(0), zeros(pretrained))
        return Matched(beneath.init(pretrained), norms, jnp.int32(0))

    def update(state: Matched, tau: PyTree | Informed) -> Matched:
        change = tau.params if isinstance(tau, Informed) else tau
        norms = leafwise(lambda norm, leaf: norm + _norm(leaf), state.norms, change)
        return Matched(beneath.update(state.state, tau), norms, state.count + 1)

    def finalize(state: Matched) -> PyTree:
        def match(merged: jax.Array, norms: jax.Array) -> jax.Array:
            norm = _norm(merged)
            # One division: the compiler may turn (a / b) / c into a / (b c), with other bits.
            wanted = norms / (jnp.maximum(state.count, 1) * jnp.where(norm > 0, norm, 1.0))
            return merged * wanted

        return leafwise(match, beneath.finalize(state.state), state.norms)

    survey = beneath.survey
    return upon(
        beneath,
        init=init,
        update=update,
        finalize=finalize,
        default_scale=1.0,
        survey=survey and (lambda vectors: norm_matched(survey(vectors))),
    )


def _norm(leaf: jax.Array) -> jax.Array:
    return jnp.sqrt(squared_norm(leaf))
