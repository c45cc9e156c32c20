"""Accuracy cost and size of quantised task vectors, for a run that keeps its tasks.

python -m benchmarks.task_bits RUN
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import tyro

from benchmarks.flags import command
from benchmarks.machine import describe
from benchmarks.tables import Output, markdown
from magmax_jax.errors import UserError
from magmax_jax.evaluation.rows import rows_of
from magmax_jax.merging import fold, merge, merged, rules, task_vector
from magmax_jax.merging.quantised_rule import quantised
from magmax_jax.merging.task_vectors import PyTree, tree_bytes
from magmax_jax.runs.build import RunParts, build_run
from magmax_jax.runs.checkpoints import Checkpoints
from magmax_jax.runs.kept_tasks import kept_model, to_keep
from magmax_jax.runs.locate import stored_config
from magmax_jax.runs.model_store import ModelStore
from magmax_jax.runs.progress import NullProgress
from magmax_jax.scenarios import build_scenario
from magmax_jax.sharding import build_layout
from magmax_jax.training import Params

HEADINGS = ["bits", "tasks/, MB", "ties state, MB", "error of tasks, %"]
MODELS = ["max_magnitude@0.5", "ties@1 (state)", "ties@1 (tasks/)", "average@1", "last task"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Quantises a run's exact task vectors, and evaluates merges of them."""

    run: tyro.conf.Positional[Path]
    """Directory of a run with --checkpoint.keep-tasks, without --checkpoint.task-bits."""
    bits: tuple[Literal[8, 4, 3], ...] = (8, 4, 3)
    output: Path | None = None
    """File for the table."""


def run(settings: Settings) -> None:
    """Shows a row for float32 and one for each number of bits.

    Raises:
      UserError: the run does not keep exact task vectors.
    """
    config = stored_config(settings.run)
    scenario = build_scenario(config.scenario, config.seed)
    parts = build_run(config, scenario, build_layout(config))
    store = ModelStore(settings.run, parts.theta_0, {}, parts.layout)
    exact = [store.task(number) for number in store.tasks]
    if not exact or config.checkpoint.task_bits is not None:
        raise UserError(f"{settings.run} keeps no exact models of its tasks")
    rows = [list(row(parts, exact, bits)) for bits in (None, *settings.bits)]
    output = Output(settings.output, describe() | {"tasks": str(len(exact))})
    output.show(markdown([*HEADINGS, *MODELS], rows))


def row(parts: RunParts, exact: Sequence[Params], bits: int | None) -> Iterator[str]:
    """The cells: bytes on disk and in memory, |error| / |tau_t| by task, and accuracies in %."""
    theta_0 = parts.theta_0
    trees = [to_keep(theta, theta_0, bits) for theta in exact]
    kept = [kept_model(each, theta_0) for each, _ in trees]
    rule = rules.ties() if bits is None else quantised(rules.ties(), bits)
    state = rule.init(theta_0)
    for theta in exact:
        state = fold(rule, state, theta, theta_0)
    with tempfile.TemporaryDirectory() as folder:
        with Checkpoints(Path(folder), keep=None) as checkpoints:
            for number, (each, note) in enumerate(trees, start=1):
                checkpoints.save(number, each, note)
        stored = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    errors = [
        norm(task_vector(few, theta)) / norm(task_vector(theta, theta_0))
        for few, theta in zip(kept, exact, strict=True)
    ]
    models = [
        merge(theta_0, kept, rules.max_magnitude(), 0.5),
        merged(rule, state, theta_0, 1.0),
        merge(theta_0, kept, rules.ties(), 1.0),
        merge(theta_0, kept, rules.average(), 1.0),
        kept[-1],
    ]
    yield "float32" if bits is None else str(bits)
    yield f"{stored / 1e6:.2f}"
    yield f"{tree_bytes(state) / 1e6:.2f}"
    yield " ".join(f"{100 * error:.2f}" for error in errors)
    for counts in parts.test.counts_of(models, NullProgress(), "models"):
        first = next(iter(rows_of(counts, parts.scenario, len(exact), "model", None)))
        yield f"{100 * first.accuracy:.2f}"


def norm(tau: PyTree) -> float:
    return float(np.sqrt(sum((np.asarray(x, np.float64) ** 2).sum() for x in jax.tree.leaves(tau))))


main = command(Settings, run, "benchmarks.task_bits", __doc__)

if __name__ == "__main__":
    sys.exit(main())
