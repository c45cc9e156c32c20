"""Chooses a scale for every merge of a run, on images that no task was trained on."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from magmax_jax.config import ExperimentConfig, SweepConfig
from magmax_jax.errors import ConfigError
from magmax_jax.merging import State
from magmax_jax.runs.build import RunParts
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.merge_specs import Merge
from magmax_jax.runs.progress import Progress
from magmax_jax.runs.refits import RefitStates, fitted_at, refitted_at
from magmax_jax.runs.swept_rows import SweptRows, scaled
from magmax_jax.scenarios import Scenario
from magmax_jax.training import Params


def choose_scales(
    parts: RunParts,
    states: Mapping[str, State],
    refits: RefitStates,
    out: RunDirectory,
    progress: Progress,
    watched: Callable[[Iterable], Iterable] = iter,
) -> None:
    """Tries every merge at the scales of `merging.scales` after the last task, and writes
    `sweep.jsonl`; does nothing if no scales are set.

    Every scale is evaluated on held-out images; only the best and the published one are evaluated
    on test images. Results of the run and rows already in `sweep.jsonl` are reused.

    Args:
      states: of the merges, after the last task.
      refits: states of refitted merges, which are tried only at the scales they were refitted at.
      watched: see `shared_pass.count_all`.
    """
    if parts.config.merging.scales is None or not parts.merges:
        return
    candidates: dict[str, tuple[Callable[[float], Params], list[float], float]] = {
        name: (
            scaled(parts.theta_0, partial(merge.rule.finalize, states[name])),
            scales_to_try(parts.config, merge),
            merge.rule.default_scale,
        )
        for name, merge in parts.merges.items()
        if merge.scales
    }
    for name, refitted in parts.refits.items():
        rule = parts.merges[refitted.rule].rule
        plain = scaled(parts.theta_0, partial(rule.finalize, states[refitted.rule]))
        candidates[name] = (
            refitted_at(plain, fitted_at(name, refits)),
            refitted.scales,
            rule.default_scale,
        )
    parts.layout.meet("the evaluations")  # all rows are written by now
    learned = len(parts.tasks)
    evaluated = [row for row in out.rows() if row.after_task == learned]
    swept = SweptRows(parts, out, learned, progress, watched=watched)
    for name, (at, scales, published) in candidates.items():
        swept.add(name, at, "validation", scales)
        tested = {swept.chosen(name), published} if published in scales else {swept.chosen(name)}
        there = {row.scale for row in swept.rows if (row.model, row.split) == (name, "test")}
        swept.rows += [
            row
            for row in evaluated
            if row.model == name and row.scale in tested and row.scale not in there
        ]
        swept.add(name, at, "test", sorted(tested))
        swept.write()


def scales_to_try(config: ExperimentConfig, merge: Merge) -> list[float]:
    """The scales in `merging.scales`, the rule's published one, and those the run evaluates."""
    return sorted({*config.merging.values, merge.rule.default_scale, *merge.scales})


def check_held_out(
    config: ExperimentConfig, scenario: Scenario, sweeps: SweepConfig | None = None
) -> None:
    """Raises a ConfigError if scales are to be chosen but no images are held out."""
    if any(len(task.validation) for task in scenario.tasks):
        return
    single = "needs held-out training images, and every class has a single one: add images, or"
    if config.merging.scales is not None:
        raise ConfigError(f"merging.scales {single} leave out the scales (merging.scales=None)")
    if sweeps is not None and sweeps.test != "all":
        raise ConfigError(f"sweep.test {sweeps.test} {single} leave it out")
