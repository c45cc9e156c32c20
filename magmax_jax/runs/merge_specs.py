"""The merges of a run: which rules, at which scales."""

from typing import Any, NamedTuple

from magmax_jax.config import ExperimentConfig
from magmax_jax.merging import MergeRule, rules
from magmax_jax.merging.quantised_rule import quantised
from magmax_jax.models.base import ModelShape
from magmax_jax.models.entries import linear_maps
from magmax_jax.registry import RULES
from magmax_jax.runs.model_ref import ModelRef


class Merge(NamedTuple):
    """A rule and the scales at which its one state is evaluated."""

    rule: MergeRule
    scales: list[float]


def parse_merges(
    config: ExperimentConfig, clip_entries: int | None = None, shape: ModelShape | None = None
) -> dict[str, Merge]:
    """`RULE` and `RULE@SCALE` as rules by name, in the order of first mention.

    Rules that are `module:function` are imported: a configuration is run like a program.

    Args:
      config: joint training merges nothing.
      clip_entries: how many CLIP has in both towers, for `merging.ties_entries`; without, rules
        have the right states but may merge otherwise.
      shape: of the model, which says where the matrices of its linear maps are; without, names
        decide, and states that hold matrices in pieces are not those of a run.

    Raises:
      UserError: a rule is unknown, cannot be imported or needs options, or a scale is no number.
    """
    merges: dict[str, Merge] = {}
    for text in () if config.method.joint else config.merges:
        ref = ModelRef.parse(text, "merges")
        name = ref.name
        if name not in merges:
            options = _options(name, config, clip_entries, shape)
            rule = rules.named(name, config.seed, **options)
            bits = config.checkpoint.task_bits
            if bits is not None and not rule.streaming:
                rule = quantised(rule, bits)
            merges[name] = Merge(rule, [])
        merge = merges[name]
        scale = merge.rule.default_scale if ref.scale is None else ref.scale
        if scale not in merge.scales:
            merge.scales.append(scale)
    return merges


def num_models(config: ExperimentConfig) -> int:
    """How many are evaluated after a task: the fine-tuned one, and every merge at every scale.

    Raises:
      UserError: as `parse_merges` does.
    """
    return 1 + sum(len(merge.scales) for merge in parse_merges(config).values())


def names_code(config: ExperimentConfig) -> bool:
    """Whether one of the merges is `module:function`, which `parse_merges` would import.

    Raises:
      UserError: a scale is no number.
    """
    return any(RULES.names_code(ModelRef.parse(text, "merges").name) for text in config.merges)


def _options(
    name: str, config: ExperimentConfig, clip_entries: int | None, shape: ModelShape | None
) -> dict[str, Any]:
    """The rule's options: of the model, and where the configuration asks for what was published."""
    options: dict[str, Any] = {}
    if shape is not None:
        tables = config.merging.matrices == "shape"
        options["maps"] = linear_maps(shape.image_entries, tables)
    if config.merging.ties_entries == "clip":
        options["entries"] = clip_entries
    if config.merging.average_divisor == "two":
        options["divisor"] = 2
    return {option: options[option] for option in options.keys() & rules.options(name).keys()}
