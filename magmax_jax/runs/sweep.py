"""One rule at many scales: evaluated in one pass, the best one found on images held out."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax

from magmax_jax.config import ExperimentConfig, SweepConfig
from magmax_jax.errors import ConfigError, UserError
from magmax_jax.evaluation.rows import Row, rows_of
from magmax_jax.merging import apply_task_vector, rules
from magmax_jax.models.base import ModelShape
from magmax_jax.registry import SCENARIO_KINDS
from magmax_jax.runs.build import RunParts
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.holding import held
from magmax_jax.runs.merge_specs import Merge, parse_merges
from magmax_jax.runs.model_ref import ModelRef
from magmax_jax.runs.model_store import ModelStore
from magmax_jax.runs.progress import NullProgress, Progress
from magmax_jax.runs.shared_pass import count_all, models_held


def sweep(
    config: SweepConfig,
    parts: RunParts,
    out: RunDirectory,
    progress: Progress | None = None,
) -> list[Row]:
    """Evaluates rules at scales after the last task learned, and writes `sweep.jsonl`.

    What is there already is not evaluated again. Of each rule the scale that is best on the
    validation images, which no task was trained on, is marked in its rows on the test images
    (`Row.chosen`); test images choose nothing, so without validation images no row is marked.

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
    apart = SCENARIO_KINDS[parts.config.scenario.kind].task_aware
    sets = {"test": parts.test}
    if (validation := parts.validation()) is not None:
        sets["validation"] = validation
    with held(out, parts.layout, progress.say):
        rows = [row for row in out.swept() if row.after_task == learned]
        for name, merge in merges.items():
            found = {(row.scale, row.split) for row in rows if row.model == name}
            missing = {
                split: scales
                for split in sets
                if (scales := [scale for scale in config.values if (scale, split) not in found])
            }
            if missing:
                tau = merge.rule.finalize(stored.state(name, merge))
                model = partial(_model, parts.theta_0, tau)
                at_once = config.at_once or models_held(tau, parts.layout)
            for split, scales in missing.items():
                images = sets[split]
                models = {str(ModelRef(name, scale)): partial(model, scale) for scale in scales}
                counts = count_all(models, images, at_once, progress)
                for scale, counted in zip(scales, counts, strict=True):
                    rows += rows_of(counted, images.scenario, learned, name, scale, split)
            rows = choose(rows, apart)
            out.keep_swept(rows)
    return rows


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
    own = parse_merges(run)
    for name in config.rules:
        if ModelRef.parse(name, "sweep.rules").scale is not None:
            raise ConfigError(f"sweep.rules: {name} cannot be swept, leave its scale out")
        if rules.named(name).needs_fisher:
            raise ConfigError(f"sweep.rules: {name} cannot be swept, it needs every task's Fisher")
        if name not in own and not run.checkpoint.keep_tasks:
            raise ConfigError(
                f"sweep.rules: {name} is none of the run's merges, and every task's model is "
                "needed to make it: add it to the merges, or run with checkpoint.keep_tasks=True"
            )
    return parse_merges(replace(run, merges=config.rules), clip_entries, shape)


def choose(rows: Sequence[Row], apart: bool) -> list[Row]:
    """The rows, those on test images of each rule's best scale on validation images marked.

    The best is that of the highest accuracy, the smallest of equal ones.

    Args:
      apart: tasks have heads of their own: the mean of their accuracies within them decides, as
        for data sets in the literature; else the accuracy on all images among all classes.
    """
    best = _best(rows, "validation", apart)
    chosen = {(row.model, row.scale) for row in best.values()}

    def marked(row: Row) -> Row:
        is_best = row.split == "test" and (row.model, row.scale) in chosen
        return replace(row, chosen="validation" if is_best else None)

    return [marked(row) for row in rows]


def describe(rows: Sequence[Row], apart: bool) -> Iterator[str]:
    """A sentence for each rule of a sweep: which scale was chosen, and what came of it."""
    measure = "mean of the data sets" if apart else "agnostic"
    tested = {(found.model, found.scale): found for found in _found(rows, "test", apart)}
    validated = _best(rows, "validation", apart)
    for model, best in _best(rows, "test", apart).items():
        if model not in validated:
            yield (
                f"{model}: scale {best.scale:g} is best ({best.accuracy:.1%}, {measure}), but was "
                "picked on test images, so do not report it; run again with "
                "--scenario.validation 0.1"
            )
            continue
        seen = validated[model]
        yield (
            f"{model}: scale {seen.scale:g} is best on {seen.images:,} validation images "
            f"({seen.accuracy:.1%}, {measure}); "
            f"{tested[model, seen.scale].accuracy:.1%} on the test images"
        )


class _Found(NamedTuple):
    """What decides on one scale of a rule."""

    model: str
    scale: float
    accuracy: float
    images: int


def _found(rows: Sequence[Row], split: str, apart: bool) -> Iterator[_Found]:
    """By ascending scale."""
    groups: dict[tuple[str, float], list[Row]] = {}
    protocol = "aware" if apart else "agnostic"
    for row in rows:
        decides = (row.split, row.protocol, row.group != "all") == (split, protocol, apart)
        if decides and row.scale is not None:
            groups.setdefault((row.model, row.scale), []).append(row)
    for (model, scale), parts in sorted(groups.items(), key=lambda found: found[0][1]):
        mean = sum(row.accuracy for row in parts) / len(parts)
        yield _Found(model, scale, mean, sum(row.count for row in parts))


def _best(rows: Sequence[Row], split: str, apart: bool) -> dict[str, _Found]:
    """By rule, the scale of the highest accuracy on images of the split."""
    best: dict[str, _Found] = {}
    for found in _found(rows, split, apart):
        if found.model not in best or found.accuracy > best[found.model].accuracy:
            best[found.model] = found
    return best


_model = jax.jit(apply_task_vector)
