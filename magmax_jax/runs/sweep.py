"""Evaluates rules at many scales in one pass, and finds the best on held-out images."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache, partial

from magmax_jax.config import ExperimentConfig, MethodConfig, SweepConfig
from magmax_jax.errors import ConfigError, UserError
from magmax_jax.evaluation.rows import Row
from magmax_jax.merging import rules
from magmax_jax.models.base import ModelShape
from magmax_jax.runs import manifest
from magmax_jax.runs.build import RunParts
from magmax_jax.runs.choose_scales import check_held_out
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.holding import held
from magmax_jax.runs.merge_specs import Merge, needs_moments, parse_merges, parse_refits
from magmax_jax.runs.model_ref import ModelRef
from magmax_jax.runs.model_store import NO_MOMENTS, ModelStore
from magmax_jax.runs.progress import NullProgress, Progress
from magmax_jax.runs.refit_task import refit_again
from magmax_jax.runs.refits import Refitter, refitted_at
from magmax_jax.runs.swept_rows import SweptRows, scaled
from magmax_jax.training import Params


def sweep(
    config: SweepConfig,
    parts: RunParts,
    out: RunDirectory,
    progress: Progress | None = None,
) -> list[Row]:
    """Evaluates rules at scales after the last task learned, and writes `sweep.jsonl`.

    Existing rows are not evaluated again. Each rule's best scale on the validation images, which no
    task was trained on, is marked in its rows on the test images (`Row.chosen`). The published
    scale of a rule named without a scale (`RULE`, not `RULE@SCALE`) is evaluated, too: on
    test images if there are validation images and `config.test` is not "later", on validation
    images if it is not "all". Test images choose nothing: without validation images no row is
    marked.

    Args:
      config: rules and scales.
      parts: of the run.
      out: the run's directory.

    Returns:
      the rows of `sweep.jsonl`.

    Raises:
      UserError: a rule is unknown, or the run has neither its state nor every task's model.
    """
    progress = progress or NullProgress()
    stored = ModelStore(out.path, parts.theta_0, parts.merges, parts.layout, parts.refits)
    merges = check(config, parts.config, parts.clip_entries, parts.shape)
    check_held_out(parts.config, parts.scenario, config)
    refits = parse_refits(_swept(config, parts.config), merges, parts.shape)
    refitter = Refitter(parts, progress)
    learned = stored.learned
    if not learned:
        raise UserError(f"{out.path} has learned no task yet: continue the run first")
    with held(out, parts.layout, progress.say):
        swept = SweptRows(parts, out, learned, progress, config.at_once)
        manifest.record_published(out, merges, refits)
        for name, scales in scales_of(config).items():
            rule = ModelRef.parse(name).rule
            at = scaled(parts.theta_0, partial(_task_vector, stored, rule, merges[rule]))
            if name in refits:
                again = partial(refit_again, name, refits[name], merges[rule])
                states = partial(again, stored=stored, parts=parts, refitter=refitter)
                at = refitted_at(at, cache(states))
            # Add the rule's published scale, unless it is to be evaluated at given scales only.
            beside = {merges[rule].rule.default_scale} if name in config.rules else set()
            if "validation" in swept.sets:
                tried = scales if config.test == "all" else (*scales, *beside)
                swept.add(name, at, "validation", tried)
            swept.add(name, at, "test", _tested(config, swept, name, scales, beside))
            swept.write()
    return swept.rows


def scales_of(config: SweepConfig) -> dict[str, list[float]]:
    """The scales of every rule by name: the sweep's, and its own from `RULE@SCALE`.

    Raises:
      UserError: the scale after @ is not a number.
    """
    found: dict[str, list[float]] = {}
    for text in config.rules:
        ref = ModelRef.parse(text, "sweep.rules")
        scales = found.setdefault(ref.name, [])
        for scale in config.values if ref.scale is None else (ref.scale,):
            if scale not in scales:
                scales.append(scale)
    return found


def _tested(
    config: SweepConfig,
    swept: SweptRows,
    name: str,
    scales: Sequence[float],
    beside: Collection[float],
) -> Sequence[float]:
    """The scales at which a rule is evaluated on test images (`config.test`).

    Args:
      scales: that the sweep tries.
      beside: the published scale, where it is to be evaluated.
    """
    if config.test == "all":
        return (*scales, *beside) if "validation" in swept.sets else scales
    return (swept.chosen(name), *beside) if config.test == "chosen" else ()


def _task_vector(stored: ModelStore, name: str, merge: Merge) -> Params:
    return merge.rule.finalize(stored.state(name, merge))


def _swept(config: SweepConfig, run: ExperimentConfig) -> ExperimentConfig:
    """The run's configuration, with the sweep's rules as its merges."""
    return replace(run, method=MethodConfig(), merges=config.rules)


def check(
    config: SweepConfig,
    run: ExperimentConfig,
    clip_entries: int | None = None,
    shape: ModelShape | None = None,
) -> dict[str, Merge]:
    """The rules of a sweep by name, including refitted ones, with the options of the run's
    configuration.

    Args:
      clip_entries, shape: see `parse_merges`.

    Raises:
      UserError: a rule is unknown or needs more than task vectors, or a run of this configuration
        has neither its state nor every task's model.
    """
    if run.method.joint:
        raise UserError("joint training merges nothing, so nothing can be swept: sweep another run")
    if config.test != "all" and not run.scenario.validation:
        raise ConfigError(
            f"sweep.test is {config.test}, and the run holds out no images for choosing a scale: "
            "run with scenario.validation=0.1, or leave sweep.test out"
        )
    own = parse_merges(run)
    for name in scales_of(config):
        ref = ModelRef.parse(name)
        rule = rules.named(ref.rule)
        if rule.needs_fisher and not rule.from_adam:
            raise ConfigError(
                f"sweep.rules: {name} needs every task's Fisher, which a run does not keep: leave "
                "it out"
            )
        if ref.refit is not None and not run.checkpoint.keep_tasks:
            raise ConfigError(
                f"sweep.rules: {name} is fitted again for every scale, and every task's model is "
                "needed for it: run with checkpoint.keep_tasks=True"
            )
        if name not in own and not run.checkpoint.keep_tasks:
            raise ConfigError(
                f"sweep.rules: {name} is not one of the run's merges, and every task's model is "
                "needed to make it: add it to the merges, or run with checkpoint.keep_tasks=True"
            )
        if name not in own and rule.from_adam and not needs_moments(own):
            raise ConfigError(f"sweep.rules: {name} cannot be swept: {NO_MOMENTS}")
    swept = _swept(config, run)
    merges = parse_merges(swept, clip_entries, shape)
    parse_refits(swept, merges, shape)
    return merges
