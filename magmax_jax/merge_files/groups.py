"""Merges small tensors of one shape in one call: tens of thousands of calls would take minutes.

The results are bit-identical to merging each tensor alone.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax

from magmax_jax.merge_files.plan import Plan
from magmax_jax.merging import MergeRule
from magmax_jax.merging.rule import LeafNames, State
from magmax_jax.merging.rules import squared_norm

ENTRIES = 1 << 18
"""For all tensors of a group together: larger tensors cost more than their call."""


class Fed(NamedTuple):
    """A rule's functions as called for a group.

    Attributes:
      key: of the group's only leaf in its trees, of shape (n, *shape) for a group of n tensors and
        of the tensor's own shape for one.
      of_stack: as `MergeRule.of_stack`; the leaf is (n, t, *shape) for a group.
      settle: the rule's measures, for a group: arrays with a leading axis of n.
    """

    key: Hashable
    init: Callable[[Any], State]
    update: Callable[[State, Any], State]
    finalize: Callable[[State], Any]
    of_stack: Callable[[Any, Any], State] | None = None
    settle: "Measures | None" = None


class Measures(NamedTuple):
    """`squared_norm` of a task vector, and the rule's `Settle.measure`, of a group."""

    squared_norm: Callable[[jax.Array], jax.Array]
    measure: Callable[[State, Sequence[jax.Array]], jax.Array]


def groups(plan: Plan) -> Iterator[list[str]]:
    """The names of the tensors to merge: small ones of one shape and dtype together, others alone.

    A rule with `of_leaf` treats those of a group the same. Any other rule that reads names must use
    them only to draw.
    """
    alike: dict[tuple, list[str]] = {}
    for name in plan.merged:
        dtypes = (source.tensors[name].dtype for source in (plan.pretrained, *plan.models))
        shape = plan.pretrained.tensors[name].shape
        kind = (_of_leaf(plan.rule, name, shape), shape, plan.out_dtypes[name], *dtypes)
        alike.setdefault(kind, []).append(name)
    for (rule, *_), names in alike.items():
        together = rule.draws or (rule.streaming and not rule.reads_names)
        size = plan.pretrained.tensors[names[0]].size
        most = max(1, ENTRIES // size) if together and size else 1
        parts = -(-len(names) // most)
        length = -(-len(names) // parts)  # equal lengths except the last: each compiles
        for start in range(0, len(names), length):
            yield names[start : start + length]


def fed(rule: MergeRule, names: Sequence[str], shape: Sequence[int]) -> Fed:
    """How `rule` merges a group from `groups`, with tensors of that shape."""
    rule = _of_leaf(rule, names[0], shape)
    found = _fed(rule, names)
    if rule.settle is None:
        return found
    measures = Measures(squared_norm, rule.settle.measure)
    if len(names) > 1:
        measures = Measures(*(partial(_each, measure) for measure in measures))
    return found._replace(settle=measures)


def _of_leaf(rule: MergeRule, name: str, shape: Sequence[int]) -> MergeRule:
    return rule.of_leaf(name, shape).rule if rule.of_leaf else rule


def _fed(rule: MergeRule, names: Sequence[str]) -> Fed:
    if len(names) == 1:
        if rule.reads_names:
            return Fed(names[0], rule.init, rule.update, rule.finalize, rule.of_stack)
        # A collecting rule compiles its parts itself: a single program could contain them once per
        # task. Compiling its update would copy every task vector.
        if not rule.streaming:
            return Fed("tensor", rule.init, rule.update, rule.finalize, rule.of_stack)
        return Fed("tensor", rule.init, partial(_update, rule), partial(_finalize, rule))
    if not rule.reads_names:
        init = jax.vmap(rule.init)
        return Fed("tensor", init, partial(_each, rule.update), partial(_each, rule.finalize))
    key = LeafNames(names)
    return Fed(
        key,
        key.mapped(rule.init),
        key.mapped(rule.update),
        key.mapped(rule.finalize),
        rule.of_stack,
    )


@partial(jax.jit, static_argnums=0)
def _update(rule: MergeRule, state: State, tau: Any) -> State:
    return rule.update(state, tau)


@partial(jax.jit, static_argnums=0)
def _finalize(rule: MergeRule, state: State) -> Any:
    return rule.finalize(state)


# A loop rather than `vmap`, which may compute sums and products in a different order.
@partial(jax.jit, static_argnums=0)
def _each(function: Callable[..., Any], *stacks: Any) -> Any:
    return jax.lax.map(lambda one: function(*one), stacks)
