"""Sweeps of an existing run, on its own scenario."""

from collections.abc import Sequence
from pathlib import Path

import jax

from magmax_jax.config import ExperimentConfig, SweepConfig
from magmax_jax.evaluation.rows import Row
from magmax_jax.runs.build import build_run
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.manifest import class_names
from magmax_jax.runs.progress import Progress
from magmax_jax.runs.recorded import Compared, checking
from magmax_jax.runs.sweep import sweep
from magmax_jax.scenarios import build_scenario
from magmax_jax.sharding import build_layout


def sweep_run(
    run: Path,
    config: ExperimentConfig,
    sweeps: Sequence[SweepConfig],
    progress: Progress,
    allow_changed: bool = False,
) -> list[Row]:
    """Runs the sweeps one after another; data and model are read once.

    With several processes, the first one writes.

    Args:
      run: its directory.
      config: the run's, with paths valid here (`runs.locate.stored_config`); the mesh and the batch
        sizes may differ.
      allow_changed: whether the run's model and data may differ from those that it recorded.

    Returns:
      the rows of `sweep.jsonl`.

    Raises:
      UserError: as `runs.sweep.sweep` does; or the run's inputs have changed since.
    """
    scenario = build_scenario(config.scenario, config.seed, recorded=class_names(run))
    with checking([Compared(run, config, scenario)], allow_changed, progress.say):
        parts = build_run(config, scenario, build_layout(config), run=run)
    directory = RunDirectory(run, writes=jax.process_index() == 0)
    for each in sweeps:
        sweep(each, parts, directory, progress)
    return directory.swept()
