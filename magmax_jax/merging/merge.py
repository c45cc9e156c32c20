"""Folds a rule over models: the implementation of `magmax_jax.merge`."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sized
from functools import cache
from typing import Any, Literal, overload

from magmax_jax.errors import UserError
from magmax_jax.merging.alike import check_finite, conform
from magmax_jax.merging.any_mesh import jit_on_any_mesh
from magmax_jax.merging.arguments import (
    RuleLike,
    check_count,
    check_model,
    check_pretrained,
    checked_scale,
    iterable_of,
    rule_and_name,
)
from magmax_jax.merging.arrays import PyTree, arrays, is_traced, is_wide, with_arrays
from magmax_jax.merging.ownership import first_state, own
from magmax_jax.merging.rule import Informed, MergeRule, State
from magmax_jax.merging.task_vectors import add, difference, without_wide
from magmax_jax.packages.lazy_jax import jax


def fold(rule: MergeRule, state: State, finetuned: PyTree | Informed, pretrained: PyTree) -> State:
    """The rule's state after one more model; the old state's buffers become the new one's.

    For a streaming rule the task vector never exists in memory: subtraction and update are one
    compiled pass. A leaf that shares memory with the model, theta_0 or another leaf is copied
    first. Within `jit`, `vmap` or `grad` no buffers are donated.

    Raises:
      UserError: the model differs from theta_0 in containers, shapes or dtypes, or the state was
        already folded into.
    """
    rule = rule.on_any_mesh()
    theta_0 = arrays(pretrained)
    if isinstance(finetuned, Informed):
        information = conform(finetuned.fisher, pretrained, dtypes=False)
        model: PyTree = Informed(conform(finetuned.params, pretrained), information)
    else:
        model = conform(finetuned, pretrained)
    model, theta_0 = _subtracted_where_wide(model, theta_0)
    if not rule.streaming:
        return rule.update(state, (_task_vector if _may_compile(theta_0) else _tau)(model, theta_0))
    if not _may_compile((state, theta_0)):
        return rule.update(state, _tau(model, theta_0))
    if is_traced(state, model, theta_0):
        return _fold_traced(rule, state, model, theta_0)
    return _fold(rule, own(state, finetuned, pretrained), model, theta_0)


def merged(
    rule: MergeRule, state: State, pretrained: PyTree, scale: jax.typing.ArrayLike
) -> PyTree:
    """theta_0 + scale tau, where the rule computes tau from its state.

    A streaming rule runs as one compiled pass; a collecting rule compiles tensor by tensor, because
    a program over all tensors of all tasks would take longer to compile than to run.

    Returns:
      A new pytree of theta_0's structure, dtypes and kinds of arrays, as from `apply_task_vector`.
    """
    return merged_at(rule, state, pretrained)(scale)


def merged_at(
    rule: MergeRule, state: State, pretrained: PyTree
) -> Callable[[jax.typing.ArrayLike], PyTree]:
    """`merged` as a function of the scale: a collecting rule computes tau once for all scales."""
    rule = rule.on_any_mesh()
    theta_0 = without_wide(arrays(pretrained))
    tau = cache(lambda: rule.finalize(state))

    def at(scale: jax.typing.ArrayLike) -> PyTree:
        if not _may_compile((state, theta_0)):
            theta = _applied(theta_0, tau(), scale)
        elif rule.streaming:
            theta = _merged(rule, state, theta_0, scale)
        else:
            theta = _apply(theta_0, tau(), scale)
        return with_arrays(pretrained, theta)

    return at


@overload
def merge(
    pretrained: PyTree,
    models: Iterable[PyTree | Informed],
    rule: RuleLike | None = None,
    scale: jax.typing.ArrayLike | None = None,
    *,
    return_state: Literal[False] = False,
) -> PyTree: ...
@overload
def merge(
    pretrained: PyTree,
    models: Iterable[PyTree | Informed],
    rule: RuleLike | None = None,
    scale: jax.typing.ArrayLike | None = None,
    *,
    return_state: Literal[True],
) -> tuple[PyTree, State]: ...
def merge(
    pretrained: PyTree,
    models: Iterable[PyTree | Informed],
    rule: RuleLike | None = None,
    scale: jax.typing.ArrayLike | None = None,
    *,
    return_state: bool = False,
) -> PyTree | tuple[PyTree, State]:
    """Merges models fine-tuned from the same theta_0: theta_0 + scale rule(tau_1 ... tau_T).

    Every floating-point array is merged, including optimizer moments in a training state; to merge
    parameters only, pass only those. Task vectors are always float32. An entry of a float64 array
    that the merge does not change keeps all its digits.

    `merge` may be called within `jax.jit`, `jax.vmap` and `jax.grad`. Traced values are not checked
    for NaN and infinity; structures, shapes and dtypes are.

    Arrays may be sharded on any mesh with any axis types: theta is bit-identical to the result on
    one device, and sharded like theta_0. Within `jax.shard_map` whole tensors are not visible, so
    it raises.

    Args:
      pretrained: theta_0, any pytree. It is not changed.
      models: theta_1 ... theta_T in task order, each with theta_0's containers, shapes and dtypes
        (for `rules.fisher`, each a `rules.Informed`). With a generator that loads one at a time, at
        most one is in memory.
      rule: how to merge: a rule, its name, or its factory function if all its options have
        defaults; `max_magnitude()` by default.
      scale: lambda, one number, negative to subtract what was learned; by default the value
        published for the rule.
      return_state: also return the rule's state, from which `fold` can continue.

    Returns:
      theta, with theta_0's structure and dtypes, and JAX or NumPy arrays as in theta_0. Everything
      except floating-point arrays (counters, random keys, functions, strings, static fields) comes
      from theta_0. With `return_state`, the pair of theta and the rule's state.

    Raises:
      UserError: an argument is invalid; there are fewer or more models than the rule merges; one
        differs from theta_0 in its containers, shapes or dtypes; or an entry is NaN or infinite,
        before or after the merge. Up to 20 leaves are named.

    >>> import jax.numpy as jnp
    >>> theta_0 = {"w": jnp.array([1.0, 1.0])}
    >>> models = [{"w": jnp.array([3.0, 0.0])}, {"w": jnp.array([0.0, 5.0])}]
    >>> merge(theta_0, models)
    {'w': Array([2., 3.], dtype=float32)}

    Which task supplied what:

    >>> from magmax_jax.merging.rules import max_magnitude
    >>> theta, state = merge(theta_0, models, max_magnitude(provenance=True), return_state=True)
    >>> print(state.source["w"])
    [1 2]
    """
    merge_rule, name = rule_and_name(rule)
    merge_rule = merge_rule.on_any_mesh()
    scale = merge_rule.default_scale if scale is None else checked_scale(scale)
    models = iterable_of(models, pretrained)
    if isinstance(models, Sized):
        check_count(merge_rule, name, len(models), return_state)
    check_pretrained(pretrained)
    state, count = first_state(merge_rule.init, arrays(pretrained)), 0
    for model in models:
        count += 1
        if merge_rule.most_models is not None and count > merge_rule.most_models:
            check_count(merge_rule, name, count, return_state)
        check_model(model, pretrained, f"model {count}", merge_rule.needs_fisher)
        state = fold(merge_rule, state, model, pretrained)
        del model  # before a generator loads the next one
    check_count(merge_rule, name, count, return_state)
    theta = merged(merge_rule, state, pretrained, scale)
    try:
        check_finite(theta)  # finite models can still overflow float16
    except UserError as error:
        raise UserError(f"the merged model: {error}") from None
    return (theta, state) if return_state else theta


def _subtracted_where_wide(
    model: PyTree | Informed, pretrained: PyTree
) -> tuple[PyTree | Informed, PyTree]:
    """The two trees, with (tau, 0) for leaves that NumPy must subtract; JAX does the rest."""
    if not any(map(is_wide, jax.tree.leaves(pretrained))):
        return model, pretrained
    if isinstance(model, Informed):
        params, pretrained = _subtracted_where_wide(model.params, pretrained)
        return model._replace(params=params), pretrained
    taus = jax.tree.map(
        lambda theta, theta_0: (
            difference(theta, theta_0) if is_wide(theta_0) and not is_traced(theta) else theta
        ),
        model,
        pretrained,
    )
    rest = jax.tree.map(
        lambda theta, theta_0: theta_0 if is_traced(theta) else without_wide(theta_0),
        model,
        pretrained,
    )
    return taus, rest


def _may_compile(tree: PyTree) -> bool:
    """Whether `jit` accepts the tree: it compares static fields, which fails if they are arrays."""
    nodes: list[Any] = [jax.tree.structure(tree)]  # JAX ships no stubs of PyTreeDef
    while nodes:
        node = nodes.pop()
        kind, static = node.node_data() or (None, None)
        try:
            hash(None if kind in (dict, OrderedDict, defaultdict) else static)
        except TypeError:
            return False
        nodes += node.children()
    return True


def _tau(model: PyTree | Informed, pretrained: PyTree) -> PyTree | Informed:
    if isinstance(model, Informed):
        return model._replace(params=difference(model.params, pretrained))
    return difference(model, pretrained)


_task_vector = jit_on_any_mesh(_tau, like=1)


def _folded(rule: MergeRule, state: State, model: PyTree, pretrained: PyTree) -> State:
    return rule.update(state, _tau(model, pretrained))


_fold = jit_on_any_mesh(_folded, like=3, static_argnums=0, donate_argnums=1)
_fold_traced = jit_on_any_mesh(_folded, like=3, static_argnums=0)


def _applied(pretrained: PyTree, tau: PyTree, scale: jax.typing.ArrayLike) -> PyTree:
    return add(pretrained, conform(tau, pretrained, dtypes=False), scale)


@jit_on_any_mesh(like=2, static_argnums=0)
def _merged(
    rule: MergeRule, state: State, pretrained: PyTree, scale: jax.typing.ArrayLike
) -> PyTree:
    return _applied(pretrained, rule.finalize(state), scale)


_apply = jit_on_any_mesh(_applied)
