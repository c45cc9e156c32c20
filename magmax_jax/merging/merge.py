"""Folding a rule over models: the composition that `magmax_jax.merge` names."""

from collections.abc import Iterable

import jax

from magmax_jax.errors import UserError
from magmax_jax.merging.any_mesh import jit_on_any_mesh
from magmax_jax.merging.rule import Informed, MergeRule, State
from magmax_jax.merging.rules import max_magnitude
from magmax_jax.merging.task_vectors import (
    PyTree,
    apply_task_vector,
    check_alike,
    check_finite,
    task_vector,
)


def fold(rule: MergeRule, state: State, finetuned: PyTree | Informed, pretrained: PyTree) -> State:
    """The rule's state after one more model; the old state's buffers become the new one's.

    For a streaming rule the task vector is never in memory by itself: subtraction and update are
    one compiled pass.
    """
    rule = rule.on_any_mesh()
    if rule.streaming:
        return _fold(rule, state, finetuned, pretrained)
    return rule.update(state, _task_vector(finetuned, pretrained))


def merged(
    rule: MergeRule, state: State, pretrained: PyTree, scale: jax.typing.ArrayLike
) -> PyTree:
    """theta_0 + scale tau, tau being what the rule makes of its state.

    A streaming rule's is one compiled pass; a collecting rule compiles tensor by tensor, because a
    program over all tensors of all tasks would take longer to compile than to run.
    """
    rule = rule.on_any_mesh()
    if rule.streaming:
        return _merged(rule, state, pretrained, scale)
    return _apply(pretrained, rule.finalize(state), scale)


def merge(
    pretrained: PyTree,
    models: Iterable[PyTree | Informed],
    rule: MergeRule | None = None,
    scale: float | None = None,
) -> PyTree:
    """One model out of many that were fine-tuned from one: theta_0 + scale rule(tau_1 ... tau_T).

    Args:
      pretrained: theta_0, any pytree of arrays.
      models: theta_1 ... theta_T in the order of their tasks, each of theta_0's structure, shapes
        and dtypes (for `rules.fisher`, each a `rules.Informed`). A generator that loads one at a
        time never holds two.
      rule: how to merge; `max_magnitude()` by default.
      scale: lambda; the rule's published default by default.

    Returns:
      theta, of theta_0's structure and dtypes.

    Raises:
      UserError: there are no models, or one differs from theta_0 in structure, shape or dtype, or
        an entry is NaN or infinite, before or after the merge; the leaves are named.

    >>> import jax.numpy as jnp
    >>> theta_0 = {"w": jnp.array([1.0, 1.0])}
    >>> merge(theta_0, [{"w": jnp.array([3.0, 0.0])}, {"w": jnp.array([0.0, 5.0])}])
    {'w': Array([2., 3.], dtype=float32)}
    """
    rule = (max_magnitude() if rule is None else rule).on_any_mesh()
    _check(pretrained, pretrained, "theta_0")
    state, count = rule.init(pretrained), 0
    for model in models:
        _check(model, pretrained, f"model {count + 1}")
        state, count = fold(rule, state, model, pretrained), count + 1
        del model  # before a generator loads the next one
    if not count:
        raise UserError("there are no models to merge: give at least one")
    theta = merged(rule, state, pretrained, rule.default_scale if scale is None else scale)
    try:
        check_finite(theta)  # also after sound models: float16 overflows, weights may be too few
    except UserError as error:
        raise UserError(f"the merged model: {error}") from None
    return theta


def _check(model: PyTree | Informed, pretrained: PyTree, name: str) -> None:
    try:
        if isinstance(model, Informed):
            check_alike(model.fisher, pretrained, dtypes=False)
            check_finite(model.fisher)
            model = model.params
        check_alike(model, pretrained)
        check_finite(model)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


@jit_on_any_mesh(like=1)
def _task_vector(finetuned: PyTree | Informed, pretrained: PyTree) -> PyTree | Informed:
    if isinstance(finetuned, Informed):
        return finetuned._replace(params=task_vector(finetuned.params, pretrained))
    return task_vector(finetuned, pretrained)


@jit_on_any_mesh(like=3, static_argnums=0, donate_argnums=1)
def _fold(rule: MergeRule, state: State, finetuned: PyTree, pretrained: PyTree) -> State:
    return rule.update(state, _task_vector(finetuned, pretrained))


@jit_on_any_mesh(like=2, static_argnums=0)
def _merged(
    rule: MergeRule, state: State, pretrained: PyTree, scale: jax.typing.ArrayLike
) -> PyTree:
    return apply_task_vector(pretrained, rule.finalize(state), scale)


_apply = jit_on_any_mesh(apply_task_vector)
