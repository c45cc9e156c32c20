"""The merges of a run: which rules, at which scales."""

from typing import Any, NamedTuple

import numpy as np

from magmax_jax.config import ExperimentConfig
from magmax_jax.errors import UserError
from magmax_jax.merging import MergeRule, rules


class Merge(NamedTuple):
    """A rule and the scales at which its one state is evaluated."""

    rule: MergeRule
    scales: list[float]


def parse_merges(config: ExperimentConfig, clip_entries: int | None = None) -> dict[str, Merge]:
    """`RULE` and `RULE@SCALE` as rules by name, in the order of first mention.

    Args:
      config: joint training merges nothing.
      clip_entries: how many CLIP has in both towers, for `merging.ties_entries`; without, rules
        have the right states but may merge otherwise.

    Raises:
      UserError: a rule is unknown, or a scale is no number.
    """
    merges: dict[str, Merge] = {}
    for text in () if config.method.joint else config.merges:
        name, scale = split(text)
        if name not in merges:
            options = _published(name, config, clip_entries)
            merges[name] = Merge(rules.named(name, config.seed, **options), [])
        merge = merges[name]
        scale = merge.rule.default_scale if scale is None else scale
        if scale not in merge.scales:
            merge.scales.append(scale)
    return merges


def split(text: str) -> tuple[str, float | None]:
    """`RULE@SCALE` as a rule's name and a scale, None where there is none.

    Raises:
      UserError: the scale is no finite number.
    """
    name, at, number = text.partition("@")
    try:
        scale = float(number) if at else None
    except ValueError:
        raise UserError(f"merges: {text!r} needs a number behind the @") from None
    if scale is not None and not np.isfinite(scale):
        raise UserError(f"merges: the scale of {text!r} is not finite")
    return name, scale


def num_models(config: ExperimentConfig) -> int:
    """How many are evaluated after a task: the fine-tuned one, and every merge at every scale.

    Raises:
      UserError: as `parse_merges` does.
    """
    return 1 + sum(len(merge.scales) for merge in parse_merges(config).values())


def _published(name: str, config: ExperimentConfig, clip_entries: int | None) -> dict[str, Any]:
    """The rule's options where the configuration asks for what was published."""
    options: dict[str, Any] = {}
    if config.merging.ties_entries == "clip":
        options["entries"] = clip_entries
    if config.merging.average_divisor == "two":
        options["divisor"] = 2
    return {option: options[option] for option in options.keys() & rules.options(name).keys()}
