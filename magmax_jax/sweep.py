"""One rule at many scales: evaluated side by side, the best one found on images held out."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from magmax_jax import evaluation
from magmax_jax.assembly import Parts, Trial
from magmax_jax.config import SweepConfig
from magmax_jax.evaluation import Counts
from magmax_jax.merges import Merge
from magmax_jax.merging import apply_task_vector, rules
from magmax_jax.merging.task_vectors import PyTree
from magmax_jax.progress import Silent
from magmax_jax.results import Row, RunDirectory
from magmax_jax.stored import StoredModels


def sweep(
    config: SweepConfig,
    parts: Parts,
    out: RunDirectory,
    progress: Silent | None = None,
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
    progress = progress or Silent()
    stored = StoredModels(out.path, parts.theta_0, parts.merges, parts.layout)
    merges = {name: _merge(name, parts) for name in config.rules}
    learned = stored.learned
    trials = {"test": parts.test}
    if (validation := parts.validation()) is not None:
        trials["validation"] = validation
    rows = [row for row in out.swept() if row.after_task == learned]
    for name, merge in merges.items():
        found = {(row.scale, row.split) for row in rows if row.model == name}
        for split, trial in trials.items():
            missing = [scale for scale in config.values if (scale, split) not in found]
            if not missing:
                continue
            tau = merge.rule.finalize(stored.state(name, merge))
            models = partial(_stacked, parts.theta_0, tau)
            counts = _count(config.at_once, models, missing, trial, progress, name)
            for scale, counted in zip(missing, counts, strict=True):
                rows += evaluation.rows(counted, trial.scenario, learned, name, scale, split)
        rows = choose(rows, parts.config.scenario.kind == "datasets")
        out.keep_swept(rows)
    return rows


def choose(rows: Sequence[Row], apart: bool) -> list[Row]:
    """The rows, those on test images of each rule's best scale on validation images marked.

    The best is that of the highest sample-weighted accuracy, the smallest of equal ones.

    Args:
      apart: tasks have heads of their own: accuracy within them decides, else among all classes.
    """
    best = _best(rows, "validation", apart)
    chosen = {(row.model, row.scale) for row in best.values()}

    def marked(row: Row) -> Row:
        is_best = row.split == "test" and (row.model, row.scale) in chosen
        return dataclasses.replace(row, chosen="validation" if is_best else None)

    return [marked(row) for row in rows]


def describe(rows: Sequence[Row], apart: bool) -> Iterator[str]:
    """A sentence for each rule of a sweep: which scale was chosen, and what came of it."""
    protocol = _protocol(apart)
    validated = _best(rows, "validation", apart)
    for model, best in _best(rows, "test", apart).items():
        if model not in validated:
            yield (
                f"{model}: best on test images at scale {best.scale:g} ({best.accuracy:.1%} "
                f"{protocol}), which chooses nothing: hold images out with --scenario.validation"
            )
            continue
        seen = validated[model]
        (shown,) = (
            row.accuracy
            for row in rows
            if (row.model, row.scale, row.split) == (model, seen.scale, "test")
            and (row.group, row.protocol) == ("all", protocol)
        )
        yield (
            f"{model}: scale {seen.scale:g} is best on {seen.count:,} validation images "
            f"({seen.accuracy:.1%} {protocol}); {shown:.1%} on the test images"
        )


def _best(rows: Sequence[Row], split: str, apart: bool) -> dict[str, Row]:
    """By rule, the row of the highest accuracy on all images of the split."""
    best: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: row.scale):
        decides = (row.split, row.group, row.protocol) == (split, "all", _protocol(apart))
        if decides and (row.model not in best or row.accuracy > best[row.model].accuracy):
            best[row.model] = row
    return best


def _protocol(apart: bool) -> str:
    return "aware" if apart else "agnostic"


def _merge(name: str, parts: Parts) -> Merge:
    if name in parts.merges:
        return parts.merges[name]
    return Merge(rules.named(name, parts.config.seed), [])


def _count(
    at_once: int | None,
    models: Callable[[jax.Array], PyTree],
    scales: Sequence[float],
    trial: Trial,
    progress: Silent,
    name: str,
) -> list[Counts]:
    """Of the models at every scale. Where all do not fit into memory, half of them are tried."""
    if at_once is None:
        at_once = 1 if jax.default_backend() == "cpu" else len(scales)
    while True:
        at_once = min(at_once, len(scales))
        try:
            return list(_passes(at_once, models, scales, trial, progress, name))
        except jax.errors.JaxRuntimeError as error:
            if at_once == 1 or "RESOURCE_EXHAUSTED" not in str(error):
                raise
            at_once = -(-at_once // 2)
            progress.say(f"{name}: the memory does not hold so many models, {at_once} at once")


def _passes(
    at_once: int,
    models: Callable[[jax.Array], PyTree],
    scales: Sequence[float],
    trial: Trial,
    progress: Silent,
    name: str,
) -> Iterator[Counts]:
    """Goes through the images as often as it must, so many scales at a time."""
    for start in range(0, len(scales), at_once):
        some = list(scales[start : start + at_once])
        # One shape, so that one program is compiled.
        padded = jnp.array(some + some[-1:] * (at_once - len(some)), jnp.float32)
        shown = f"{name} at {', '.join(f'{scale:g}' for scale in some)}"
        batches = progress.evaluating(shown, trial.batches, trial.num_batches)
        counts = trial.evaluate(models(padded), batches, at_once)
        for i in range(len(some)):
            yield jax.tree.map(lambda count, i=i: count[i], counts)


@jax.jit
def _stacked(theta_0: PyTree, tau: PyTree, scales: jax.Array) -> PyTree:
    """theta_0 + scale tau for every scale, along a new first axis."""
    return jax.vmap(partial(apply_task_vector, theta_0, tau))(scales)
