"""What rules that are built upon another rule have in common."""

from typing import Any

from magmax_jax.merging.rule import MergeRule
from magmax_jax.merging.rules.by_name import named

RuleOrName = MergeRule | str


def resolved(rule: RuleOrName, seed: int) -> MergeRule:
    """The rule that an option names, with its defaults, or is.

    Raises:
      UserError: there is no rule of that name, or one of its options must be given.
    """
    return rule if isinstance(rule, MergeRule) else named(rule, seed)


def upon(rule: MergeRule, **changes: Any) -> MergeRule:
    """A rule with other functions and facts, which sees whole tensors.

    What made the rule's own functions faster, or names its own options, is not true of the others.
    """
    scope = "tensor" if rule.scope == "entry" else rule.scope
    facts = {"scope": scope, "state_options": (), "draws": False, "trims": None, "of_leaf": None}
    return rule._replace(**{**facts, **changes})
