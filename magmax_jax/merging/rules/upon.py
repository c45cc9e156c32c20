"""Shared by rules that are built on another rule."""

from typing import Any

from magmax_jax.merging.rule import MergeRule
from magmax_jax.merging.rules.by_name import named

RuleOrName = MergeRule | str


def resolved(rule: RuleOrName, seed: int) -> MergeRule:
    """The rule given as an option, or the rule of that name with its defaults.

    Raises:
      UserError: there is no rule of that name, or one of its options is required.
    """
    return rule if isinstance(rule, MergeRule) else named(rule, seed)


def upon(rule: MergeRule, **changes: Any) -> MergeRule:
    """A rule with some fields replaced, which sees whole tensors.

    Fields that speed up the rule's own functions, or name its own options, are reset: they do not
    hold for the new ones.
    """
    scope = "tensor" if rule.scope == "entry" else rule.scope
    faster = {"draws": False, "trims": None, "thins": None, "of_leaf": None, "of_stack": None}
    return rule._replace(**{"scope": scope, "state_options": (), **faster, **changes})
