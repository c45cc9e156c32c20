"""Facts about a rule that a comparison needs."""

import functools
from typing import NamedTuple

from magmax_jax.errors import UserError
from magmax_jax.registry import RULES


class RuleFacts(NamedTuple):
    """A rule's memory and published scale.

    Attributes:
      streaming: whether the size of its state is independent of the number of tasks; None if the
        rule is not available here.
      scale: its default one.
    """

    streaming: bool | None
    scale: float | None

    @property
    def memory(self) -> str:
        return {True: "constant", False: "all tasks", None: "?"}[self.streaming]


@functools.cache
def facts_of(rule: str) -> RuleFacts:
    """The facts of a rule by name, with default options; a refit (`ema+lda`) adds a state of
    constant size."""
    from magmax_jax.merging import rules  # slow: imports every rule

    unknown = RuleFacts(None, None)
    rule = rule.partition("+")[0]
    if RULES.names_code(rule):  # a comparison imports no code that a run names
        return unknown
    try:
        found = rules.named(rule)
    except UserError:
        return unknown
    return RuleFacts(found.streaming, found.default_scale)
