"""One rule at many scales: evaluated in one pass, the best one found on images held out."""

from dataclasses import replace
from functools import cache, partial

from magmax_jax.config import ExperimentConfig, MethodConfig, SweepConfig
from magmax_jax.errors import ConfigError, UserError
from magmax_jax.evaluation.rows import Row
from magmax_jax.merging import rules
from magmax_jax.models.base import ModelShape
from magmax_jax.runs import manifest
from magmax_jax.runs.build import RunParts
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.holding import held
from magmax_jax.runs.merge_specs import Merge, needs_moments, parse_merges
from magmax_jax.runs.model_ref import ModelRef
from magmax_jax.runs.model_store import NO_MOMENTS, ModelStore
from magmax_jax.runs.progress import NullProgress, Progress
from magmax_jax.runs.swept_rows import SweptRows
from magmax_jax.training import Params


def sweep(
    config: SweepConfig,
    parts: RunParts,
    out: RunDirectory,
    progress: Progress | None = None,
) -> list[Row]:
    """Evaluates rules at scales after the last task learned, and writes `sweep.jsonl`.

    What is there already is not evaluated again. Of each rule the scale that is best on the
    validation images, which no task was trained on, is marked in its rows on the test images
    (`Row.chosen`), and the published one is evaluated, too (unless `config.test` is later); test
    images choose nothing, so without validation images no row is marked.

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
    stored = ModelStore(out.path, parts.theta_0, parts.merges, parts.layout)
    merges = check(config, parts.config, parts.clip_entries, parts.shape)
    learned = stored.learned
    if not learned:
        raise UserError(f"{out.path} has learned no task yet: there is nothing to sweep")
    with held(out, parts.layout, progress.say):
        swept = SweptRows(parts, out, learned, progress, config.at_once)
        manifest.record_published(out, merges)
        for name, merge in merges.items():
            tau = cache(partial(_task_vector, stored, name, merge))
            published = merge.rule.default_scale
            if "validation" in swept.sets:
                tried = config.values if config.test == "all" else (*config.values, published)
                swept.add(name, tau, "validation", tried)
            swept.add(name, tau, "test", _tested(config, swept, name, published))
            swept.write()
    return swept.rows


def _tested(
    config: SweepConfig, swept: SweptRows, name: str, published: float
) -> tuple[float, ...]:
    """The scales at which test images see a rule: beside what is chosen, the published one."""
    if config.test == "all":
        return (*config.values, published) if "validation" in swept.sets else config.values
    return (swept.chosen(name), published) if config.test == "chosen" else ()


def _task_vector(stored: ModelStore, name: str, merge: Merge) -> Params:
    return merge.rule.finalize(stored.state(name, merge))


def check(
    config: SweepConfig,
    run: ExperimentConfig,
    clip_entries: int | None = None,
    shape: ModelShape | None = None,
) -> dict[str, Merge]:
    """The rules of a sweep by name, as the run's configuration says that they merge.

    Args:
      clip_entries, shape: see `parse_merges`.

    Raises:
      UserError: a rule is unknown or needs more than task vectors, or a run of this configuration
        has neither its state nor every task's model.
    """
    if run.method.joint:
        raise UserError("joint training merges nothing: there is nothing to sweep")
    if config.test != "all" and not run.scenario.validation:
        raise ConfigError(
            f"sweep.test is {config.test}, and the run holds no images out to choose a scale on: "
            "run with scenario.validation=0.1, or leave sweep.test out"
        )
    own = parse_merges(run)
    for name in config.rules:
        if ModelRef.parse(name, "sweep.rules").scale is not None:
            raise ConfigError(f"sweep.rules: {name} cannot be swept, leave its scale out")
        rule = rules.named(name)
        if rule.needs_fisher and not rule.from_adam:
            raise ConfigError(f"sweep.rules: {name} cannot be swept, it needs every task's Fisher")
        if name not in own and not run.checkpoint.keep_tasks:
            raise ConfigError(
                f"sweep.rules: {name} is none of the run's merges, and every task's model is "
                "needed to make it: add it to the merges, or run with checkpoint.keep_tasks=True"
            )
        if name not in own and rule.from_adam and not needs_moments(own):
            raise ConfigError(f"sweep.rules: {name} cannot be swept: {NO_MOMENTS}")
    swept = replace(run, method=MethodConfig(), merges=config.rules)
    return parse_merges(swept, clip_entries, shape)
