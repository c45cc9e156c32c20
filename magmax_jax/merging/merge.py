"""Folding a rule over models: the composition that `magmax_jax.merge` names."""

from collections.abc import Iterable
from functools import partial

import jax

from magmax_jax.errors import UserError
from magmax_jax.merging.rules import MergeRule, State, max_magnitude
from magmax_jax.merging.task_vectors import PyTree, apply_task_vector, check_alike, task_vector


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def fold(rule: MergeRule, state: State, finetuned: PyTree, pretrained: PyTree) -> State:
    """The rule's state after one more model; the old state's buffers become the new one's.

    The task vector is never in memory by itself: subtraction and update are one compiled pass.
    """
    return rule.update(state, task_vector(finetuned, pretrained))


@partial(jax.jit, static_argnums=0)
def merged(
    rule: MergeRule, state: State, pretrained: PyTree, scale: jax.typing.ArrayLike
) -> PyTree:
    """theta_0 + scale tau, tau being what the rule makes of its state."""
    return apply_task_vector(pretrained, rule.finalize(state), scale)


def merge(
    pretrained: PyTree,
    models: Iterable[PyTree],
    rule: MergeRule | None = None,
    scale: float | None = None,
) -> PyTree:
    """One model out of many that were fine-tuned from one: theta_0 + scale rule(tau_1 ... tau_T).

    Args:
      pretrained: theta_0, any pytree of arrays.
      models: theta_1 ... theta_T in the order of their tasks, each like theta_0 in structure.
        A generator that loads one at a time never holds two.
      rule: how to merge; `max_magnitude()` by default.
      scale: lambda; the rule's published default by default.

    Returns:
      theta, of theta_0's structure and dtypes.

    Raises:
      UserError: there are no models, or one differs from theta_0 in structure or shape.

    >>> import jax.numpy as jnp
    >>> theta_0 = {"w": jnp.array([1.0, 1.0])}
    >>> merge(theta_0, [{"w": jnp.array([3.0, 0.0])}, {"w": jnp.array([0.0, 5.0])}])
    {'w': Array([2., 3.], dtype=float32)}
    """
    rule = max_magnitude() if rule is None else rule
    state, count = rule.init(pretrained), 0
    for model in models:
        try:
            check_alike(model, pretrained)
        except UserError as error:
            raise UserError(f"model {count + 1}: {error}") from None
        state, count = fold(rule, state, model, pretrained), count + 1
        del model  # before a generator loads the next one
    if not count:
        raise UserError("there are no models to merge: give at least one")
    return merged(rule, state, pretrained, rule.default_scale if scale is None else scale)
