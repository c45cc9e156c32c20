"""The norm of a merge: max magnitude's grows with every task, an average's shrinks."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.merging.numerics.reductions import squared_norm
from magmax_jax.merging.rule import Informed, MergeRule, Settle, State, factory, leafwise
from magmax_jax.merging.rules.upon import RuleOrName, resolved, upon
from magmax_jax.merging.task_vectors import PyTree, is_merged
from magmax_jax.registry import RULES


class Matched(NamedTuple):
    """State of `norm_matched`.

    Attributes:
      state: that of the rule beneath.
      norms: the sum of the task vectors' norms, float32 scalar.
      count: tasks seen, int32 scalar.
    """

    state: State
    norms: jax.Array
    count: jax.Array  # type: ignore[assignment]  # part of saved states; tuple.count is not called


@RULES.register("norm_matched")
@factory
def norm_matched(
    rule: RuleOrName = "max_magnitude", rescale: float | None = None, seed: int = 0
) -> MergeRule:
    """Another rule's merge at the norm of a task vector.

        tau = m mean_t |tau_t| / |m|,    m what the rule makes of tau_1 ... tau_T

    The last step of OPCM (arXiv 2501.09522), for any rule. One scale then means one distance from
    theta_0, whatever the rule and the number of tasks: |theta - theta_0| = lambda mean_t |tau_t|.
    Norms are over all entries of all leaves: one per tensor would depend on how a model is cut into
    tensors (q, k and v apart or joined, layers apart or stacked). Default scale 1. State: the
    rule's and two numbers. Order matters as it does for the rule.

    Args:
      rule: a streaming rule or its name.
      rescale: mean_t |tau_t| / |m|, for callers who merge leaf by leaf: see `opcm_rescale`.
      seed: of a rule that is named and draws.

    Raises:
      UserError: the rule is none, collects task vectors, or has a norm of its own as `opcm` has.
    """
    beneath = resolved(rule, seed)
    if not beneath.streaming:
        raise UserError("norm_matched: the rule collects all task vectors: give a streaming one")
    if beneath.settle:
        raise UserError("norm_matched: the rule settles its own norm: use it as it is")

    def init(pretrained: PyTree) -> Matched:
        return Matched(beneath.init(pretrained), jnp.float32(0), jnp.int32(0))

    def update(state: Matched, tau: PyTree | Informed) -> Matched:
        norm = norm_of(tau.params if isinstance(tau, Informed) else tau)
        return Matched(beneath.update(state.state, tau), state.norms + norm, state.count + 1)

    def finalize(state: Matched) -> PyTree:
        merged = beneath.finalize(state.state)
        if rescale is None:
            factor = to_mean(state.norms, state.count, norm_of(merged))
        else:
            # Behind a barrier, for the compiler reorders products with a number that it knows.
            factor = jax.lax.optimization_barrier(jnp.float32(rescale))
        return leafwise(lambda leaf: leaf * factor, merged)

    def measure(state: Matched, norms: Sequence[jax.Array]) -> jax.Array:
        (leaf,) = jax.tree.leaves(beneath.finalize(state.state))
        return jnp.stack([*norms, squared_norm(leaf)])

    def complete(measured: Mapping[str, np.ndarray]) -> MergeRule:
        *tasks, merged = np.stack([measured[name] for name in sorted(measured)], axis=1)
        return norm_matched(beneath, float(opcm_rescale(tasks, merged)))

    survey = beneath.survey
    return upon(
        beneath,
        init=init,
        update=update,
        finalize=finalize,
        default_scale=1.0,
        survey=survey and (lambda vectors: norm_matched(survey(vectors), rescale)),
        settle=Settle(measure, complete) if rescale is None else None,
    )


def opcm_rescale(
    tasks: Sequence[Sequence[jax.typing.ArrayLike]], merged: Sequence[jax.typing.ArrayLike]
) -> jax.Array:
    """The `rescale` of `opcm` and `norm_matched` from numbers of each leaf: float32 scalar.

    Args:
      tasks: of every task, the `squared_norm` of each leaf of its task vector.
      merged: the `squared_norm` of each leaf of the merge before it is rescaled (`opcm`: of the
        state's `tau`), in the same order of leaves.
    """
    norms = sum(jnp.sqrt(sum(leaves)) for leaves in tasks)
    return to_mean(jnp.asarray(norms), len(tasks), jnp.sqrt(sum(merged)))


def to_mean(norms: jax.Array, count: jax.typing.ArrayLike, norm: jax.Array) -> jax.Array:
    """What brings a merge of that norm to the mean of `count` norms that add up to `norms`."""
    # One division: the compiler may turn (a / b) / c into a / (b c), which rounds otherwise.
    return jnp.where(norm > 0, norms / (count * jnp.where(norm > 0, norm, 1.0)), 1.0)


def norm_of(tau: PyTree) -> jax.Array:
    """The norm of a task vector over all its leaves: float32 scalar."""
    return jnp.sqrt(sum(squared_norm(leaf) for leaf in jax.tree.leaves(tau) if is_merged(leaf)))
