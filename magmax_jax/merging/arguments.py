"""Validates the arguments of `merge`; each mistake gets a one-sentence error."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any

import numpy as np

from magmax_jax.errors import UserError, counted
from magmax_jax.merging.alike import check_finite, conform
from magmax_jax.merging.arrays import PyTree, is_array, is_merged, is_traced
from magmax_jax.merging.rule import Informed, MergeRule
from magmax_jax.merging.rules import max_magnitude, named
from magmax_jax.packages.lazy_jax import jax, jnp

RuleLike = MergeRule | str | Callable[..., MergeRule]
"""A rule, its name, or its factory function if all its options have defaults."""


def rule_and_name(rule: RuleLike | None) -> tuple[MergeRule, str]:
    """Resolves a rule (None means `max_magnitude()`), with its name for messages.

    Raises:
      UserError: it is not a rule, or one of its options is required.
    """
    if rule is None:
        return max_magnitude(), "max_magnitude"
    if isinstance(rule, MergeRule):
        return rule, "this rule"
    if isinstance(rule, str):
        return named(rule), rule
    if not callable(rule) or isinstance(rule, type):
        raise UserError(
            f"rule is of type {type(rule).__name__}: give a rule such as mm.rules.ties() or its "
            "name, mm.merge(pretrained, models, rule)"
        )
    name = getattr(rule, "__name__", "rule")
    parameters = inspect.signature(rule).parameters.values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if needed := [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]:
        raise UserError(f"{name} needs {', '.join(needed)}: call it, {name}({needed[0]}=...)")
    made = rule()
    if not isinstance(made, MergeRule):
        raise UserError(f"{name}() is of type {type(made).__name__}, not a MergeRule")
    return made, name


def iterable_of(models: Any, pretrained: PyTree) -> Iterable[PyTree | Informed]:
    """`models`, checked not to be a single model, a path or a rule.

    Raises:
      UserError: it is one of these, or is not iterable.
    """
    if isinstance(models, MergeRule) or inspect.isroutine(models):
        raise UserError(
            "models is a merge rule or a function: the order is mm.merge(pretrained, models, rule)"
        )
    if isinstance(models, str | os.PathLike):
        raise UserError(
            f"models is a path, {os.fspath(models)!r}: give a list of models, each of them loaded, "
            "for instance with mm.CLIP.from_pretrained"
        )
    if isinstance(pretrained, str | os.PathLike):
        raise UserError(f"theta_0 is a path, {os.fspath(pretrained)!r}: {_LOAD}")
    single = isinstance(models, Informed) or not isinstance(models, Iterable)
    if single or (isinstance(models, Sized) and _alike(models, pretrained)):
        raise UserError(
            f"models is one {type(models).__name__}, not a list of models: give [model] for one"
        )
    if isinstance(models, Mapping):
        raise UserError(
            f"models is one {type(models).__name__}: give a list of models, [model] if this is a "
            "model, or list(models.values()) if its values are, in the order of their tasks"
        )
    return models


def check_count(rule: MergeRule, name: str, number: int, growing: bool) -> None:
    """Raises a UserError unless the rule can merge this many models.

    Args:
      growing: the state is kept, so the rule may have weights for later tasks.
    """
    if not number:
        raise UserError("there are no models to merge: give at least one")
    most = rule.most_models
    given = counted(number, "model")
    if rule.per_model and most is not None and (number > most or (number < most and not growing)):
        raise UserError(f"{name} has {most} {rule.per_model} for {given}: give one for each model")
    if not rule.admits(number):
        raise UserError(f"{name} merges {rule.admitted} models: give that many, not {number}")


def check_pretrained(pretrained: PyTree) -> None:
    """Raises a UserError unless theta_0 is finite and has something to merge."""
    check_model(pretrained, pretrained, "theta_0")
    if not any(map(is_merged, jax.tree.leaves(pretrained))):
        raise UserError("theta_0 contains no floating-point arrays: there is nothing to merge")


def check_model(
    model: PyTree | Informed, pretrained: PyTree, name: str, fisher: bool = False
) -> None:
    """Raises a UserError that starts with `name` unless the model is finite and matches theta_0.

    If theta_0 has a method `check_mergeable(model)`, it is called as well.

    Args:
      fisher: whether the rule takes models with their Fisher.
    """
    if isinstance(model, str | os.PathLike):
        raise UserError(f"{name} is a path, {os.fspath(model)!r}: {_LOAD}")
    try:
        if isinstance(model, Informed):
            if not fisher:
                raise UserError("this rule takes no Fisher: give only the model's params")
            conform(model.fisher, pretrained, dtypes=False)
            check_finite(model.fisher)
            model = model.params
        conform(model, pretrained)
        check_finite(model)
        if check := getattr(pretrained, "check_mergeable", None):
            check(model)  # catches what shapes do not show, e.g. a different activation
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def checked_scale(scale: Any) -> jax.typing.ArrayLike:
    """lambda, a single number; a traced value is not checked.

    Raises:
      UserError: it is not a number, more than one, NaN or infinite.
    """
    if not is_array(scale) or jnp.issubdtype(jnp.result_type(scale), jnp.complexfloating):
        raise UserError(f"scale is of type {type(scale).__name__}: give one number, such as 0.5")
    if jnp.shape(scale):
        raise UserError(
            f"scale has shape {jnp.shape(scale)}: give one number, and merge once for each of them"
        )
    if not is_traced(scale) and not np.isfinite(scale):
        raise UserError(f"scale is {scale}: give a finite number, such as 0.5")
    return scale


_LOAD = "load it first, for instance with mm.CLIP.from_pretrained"


def _alike(models: Any, pretrained: PyTree) -> bool:
    if not any(map(is_array, jax.tree.leaves(pretrained))):
        return False  # trees without arrays are all alike
    try:
        conform(models, pretrained)
    except UserError:
        return False
    return True
