"""The merges of a run: which rules, at which scales."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from magmax_jax.config import ExperimentConfig
from magmax_jax.errors import ConfigError
from magmax_jax.merging import MergeRule, rules
from magmax_jax.merging.quantised_rule import quantised
from magmax_jax.models.base import LastMap, ModelShape
from magmax_jax.models.entries import linear_maps
from magmax_jax.refit import Refit
from magmax_jax.registry import MODEL_FAMILIES, REFITS, RULES
from magmax_jax.runs.model_ref import ModelRef


class Merge(NamedTuple):
    """A rule and the scales at which its single state is evaluated; no scales if tasks only start
    from it, or if it is only refitted."""

    rule: MergeRule
    scales: list[float]


class Refitted(NamedTuple):
    """A merge whose last linear map is refitted after every task, separately at each scale.

    Attributes:
      rule: the name of the merge, which is one of the run's.
      refit: fits the map.
      ends: where the map is in the model; None if the model's shape is not known yet.
      scales: at which the merge is refitted and evaluated.
    """

    rule: str
    refit: Refit
    ends: LastMap | None
    scales: list[float]


def parse_merges(
    config: ExperimentConfig, clip_entries: int | None = None, shape: ModelShape | None = None
) -> dict[str, Merge]:
    """Parses `RULE` and `RULE@SCALE` into rules by name, in order of first mention.

    Includes the rule that tasks start from (`method.start`) and those that are refitted
    (`parse_refits`): without scales unless they are also among `config.merges`.

    Rules given as `module:function` are imported: running a configuration may run code.

    Args:
      config: joint training merges nothing.
      clip_entries: number of parameters in CLIP's two towers, for `merging.ties_entries`; without
        it, rules have the right states but may merge differently.
      shape: of the model, which says where the matrices of its linear maps are; without it, names
        decide, and states that hold matrices in pieces differ from a run's.

    Raises:
      UserError: a rule is unknown, cannot be imported or needs options, or a scale is not a number.
    """
    merges: dict[str, Merge] = {}
    if config.method.joint:
        return merges
    for text in config.merges:
        ref = ModelRef.parse(text, "merges")
        if ref.rule not in merges:
            merges[ref.rule] = Merge(_rule(ref.rule, config, clip_entries, shape), [])
        merge = merges[ref.rule]
        if ref.refit is None:
            _add(merge.scales, ref, merge.rule)
    start = start_merge(config)
    if start and start.name not in merges:
        merges[start.name] = Merge(_start_rule(start.name, config, clip_entries, shape), [])
    return merges


def parse_refits(
    config: ExperimentConfig,
    merges: Mapping[str, Merge] | None = None,
    shape: ModelShape | None = None,
) -> dict[str, Refitted]:
    """Parses `RULE+REFIT` and `RULE+REFIT@SCALE`; keys are names without the scale.

    Args:
      merges: the configuration's `parse_merges`, if it was called already.
      shape: of the model.

    Raises:
      UserError: as `parse_merges` does, a refit is unknown, or the model does not end in a linear
        map.
    """
    refits: dict[str, Refitted] = {}
    refs = [] if config.method.joint else [ModelRef.parse(m, "merges") for m in config.merges]
    for ref in refs:
        if ref.refit is not None:
            merges = parse_merges(config) if merges is None else merges
            ends = None if shape is None else _last_map(shape)
            refits.setdefault(ref.name, Refitted(ref.rule, REFITS[ref.refit](), ends, []))
            _add(refits[ref.name].scales, ref, merges[ref.rule].rule)
    return refits


def _last_map(shape: ModelShape) -> LastMap:
    found = MODEL_FAMILIES[shape.model_type].last_map
    if found is None:
        raise ConfigError(
            f"merges: the image tower of a {shape.model_type} does not end in a linear map that a "
            "refit could fit: merge without a refit"
        )
    return found


def _add(scales: list[float], ref: ModelRef, rule: MergeRule) -> None:
    """Adds the scale in the name, or else the rule's published one."""
    scale = scale_of(ref, rule)
    if scale not in scales:
        scales.append(scale)


def scale_of(ref: ModelRef, rule: MergeRule) -> float:
    """The scale that a merge's name gives, or else the rule's default scale."""
    return rule.default_scale if ref.scale is None else ref.scale


def needs_moments(merges: Mapping[str, Merge]) -> bool:
    """Whether one of the merges takes Adam's second moments with every model."""
    return any(merge.rule.from_adam for merge in merges.values())


def start_merge(config: ExperimentConfig) -> ModelRef | None:
    """The merge that tasks start from; None if they start from the last model or theta_0.

    Raises:
      UserError: its scale is not a number.
    """
    start = config.method.start
    return None if start is None else ModelRef.parse(start, "method.start")


def num_models(config: ExperimentConfig) -> int:
    """Number of models evaluated after a task: the fine-tuned one, and every merge at every scale.

    Raises:
      UserError: as `parse_merges` does.
    """
    merges = parse_merges(config)
    scales = [merge.scales for merge in merges.values()]
    scales += [refitted.scales for refitted in parse_refits(config, merges).values()]
    return 1 + sum(map(len, scales))


def names_code(config: ExperimentConfig) -> bool:
    """Whether a merge, or the start, is `module:function`, which `parse_merges` would import.

    Raises:
      UserError: a scale is not a number.
    """
    refs = [ModelRef.parse(text, "merges") for text in config.merges]
    start = start_merge(config)
    return any(RULES.names_code(ref.rule) for ref in (*refs, *([start] if start else [])))


def _rule(
    name: str, config: ExperimentConfig, clip_entries: int | None, shape: ModelShape | None
) -> MergeRule:
    rule = rules.named(name, config.seed, **_options(name, config, clip_entries, shape))
    bits = config.checkpoint.task_bits
    return rule if bits is None or rule.streaming else quantised(rule, bits)


def _start_rule(
    name: str, config: ExperimentConfig, clip_entries: int | None, shape: ModelShape | None
) -> MergeRule:
    if not (name in RULES or RULES.names_code(name)):
        raise ConfigError(
            f"method.start is {config.method.start}: choose last, pretrained, or RULE[@SCALE] of a "
            f"rule among {', '.join(RULES)}, or module:function for one of your own"
        )
    return _rule(name, config, clip_entries, shape)


def _options(
    name: str, config: ExperimentConfig, clip_entries: int | None, shape: ModelShape | None
) -> dict[str, Any]:
    """The rule's options, from the model and from the configuration's `merging` settings."""
    options: dict[str, Any] = {}
    if shape is not None:
        tables = config.merging.matrices == "shape"
        options["maps"] = linear_maps(shape.image_entries, tables)
    if config.merging.ties_entries == "clip":
        options["entries"] = clip_entries
    if config.merging.average_divisor == "two":
        options["divisor"] = 2
    return {option: options[option] for option in options.keys() & rules.options(name).keys()}
