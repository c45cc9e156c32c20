"""The merges of a run: which rules, at which scales."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.merging import MergeRule, rules


class Merge(NamedTuple):
    """A rule and the scales at which its one state is evaluated."""

    rule: MergeRule
    scales: list[float]


def parse_merges(texts: Sequence[str], seed: int) -> dict[str, Merge]:
    """`RULE` and `RULE@SCALE` as rules by name, in the order of first mention.

    Raises:
      UserError: a rule is unknown, or a scale is no number.
    """
    merges: dict[str, Merge] = {}
    for text in texts:
        name, at, number = text.partition("@")
        merge = merges.setdefault(name, Merge(rules.named(name, seed), []))
        try:
            scale = float(number) if at else merge.rule.default_scale
        except ValueError:
            raise UserError(f"merges: {text!r} needs a number behind the @") from None
        if not np.isfinite(scale):
            raise UserError(f"merges: the scale of {text!r} is not finite")
        if scale not in merge.scales:
            merge.scales.append(scale)
    return merges
