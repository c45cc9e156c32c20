"""Every configuration of every grid with a dummy model and generated data.

All are built; one of each kind of scenario and method is also trained for two steps.
"""

from dataclasses import replace
from functools import cache
from itertools import islice

import numpy as np
import pytest

from magmax_jax.config import ExperimentConfig, ModelConfig
from magmax_jax.evaluation.rows import num_rows_of_one, rows_of
from magmax_jax.merging import fold, merged
from magmax_jax.runs import build
from magmax_jax.runs.build import RunParts
from magmax_jax.runs.merge_specs import Merge, parse_merges
from magmax_jax.scenarios import Head, Scenario, build_scenario
from magmax_jax.scenarios import build as building
from magmax_jax.sharding import one_device
from magmax_jax.training import fine_tune
from tests.cli.generated import all_cells, source

CELLS = all_cells()
METHODS = {name: cell.config.method for name, cell in CELLS.items()}
TRAINED = {
    (CELLS[name].config.scenario.kind, method.sequential, method.regularizer, method.joint): name
    for name, method in reversed(METHODS.items())
}

LAYOUT = one_device()
make_trainer, build_regularizer = cache(build.make_trainer), cache(build.build_regularizer)
"""Cells with equal programs share them, like the tasks of one run."""


def shrunk(config: ExperimentConfig, model: str) -> ExperimentConfig:
    """The cell's scenario and method with a dummy model and one prompt."""
    return replace(
        config,
        model=ModelConfig(model),
        scenario=replace(config.scenario, templates=("a {}",), limit_per_class=None),
        train=replace(config.train, batch_size=4),
        eval_batch_size=64,
    )


@pytest.fixture(autouse=True)
def small_and_shared(monkeypatch):
    """Uses generated data, and traces programs that cells share only once."""
    monkeypatch.setattr(building, "load_source", source)
    monkeypatch.setattr(build, "make_trainer", make_trainer)
    monkeypatch.setattr(build, "build_regularizer", build_regularizer)


def scenario_of(config: ExperimentConfig) -> Scenario:
    scenario = build_scenario(config.scenario, config.seed)
    # The dummy's tokens are bytes, and gtsrb's names are longer than its context.
    heads = [
        Head(tuple(n[:20] for n in head.class_names), head.templates) for head in scenario.heads
    ]
    return replace(scenario, heads=tuple(heads))


def built(name: str, model) -> tuple[Scenario, RunParts]:
    """A cell's scenario and the parts of its run."""
    config = shrunk(CELLS[name].config, str(model))
    scenario = scenario_of(config)
    return scenario, build.build_run(config, scenario, LAYOUT)


def check_merges(name: str, config: ExperimentConfig) -> dict[str, Merge]:
    merges = parse_merges(config, clip_entries=100_000)
    assert (len(merges) == 4) == (CELLS[name].method in ("sequential", "independent")), name
    return merges


def test_every_cell_has_its_scenario_and_its_merges():
    by_scenario = {}
    for name, cell in CELLS.items():
        check_merges(name, cell.config)
        by_scenario[cell.config.scenario] = name
    for name in by_scenario.values():
        scenario = scenario_of(shrunk(CELLS[name].config, ""))
        tasks = CELLS[name].config.scenario.num_tasks
        assert CELLS[name].config.scenario.kind != "class" or len(scenario.tasks) == tasks, name
        assert num_rows_of_one(scenario) > 0, name


def test_every_data_set_yields_batches(tiny_clip):
    """Task by task and jointly: a batch has the classes that the objective learns."""
    distinct = {}
    for name, cell in CELLS.items():
        data = cell.config.scenario
        distinct[data.kind, data.dataset, data.datasets, cell.config.method.joint] = name
    for name in distinct.values():
        _, parts = built(name, tiny_clip)
        for task in (1, len(parts.tasks)):
            batch = next(iter(parts.train_batches(task, 1)))
            learned = np.asarray(parts.objective(task).classes)
            assert learned[batch.label[batch.mask]].all(), name


@pytest.mark.parametrize("name", TRAINED.values())
def test_a_cell_learns_merges_and_evaluates(name, tiny_clip):
    scenario, parts = built(name, tiny_clip)
    theta, memory = parts.theta_0, parts.regularizer.init(parts.theta_0)
    for task in (1, len(parts.tasks)):  # with joint training the last task is the first
        objective, batches = parts.objective(task), list(islice(parts.train_batches(task, 2), 2))
        losses = []
        theta = fine_tune(
            parts.trainer,
            theta,
            objective,
            batches,
            lambda step, metrics, losses=losses: losses.append(metrics.loss),
            memory,
        )
        assert len(losses) == 2 and np.isfinite(losses).all()
        placed = map(parts.trainer.place, batches)
        memory = parts.regularizer.consolidate(memory, theta, placed, objective)
    for rule, scales in check_merges(name, CELLS[name].config).values():
        state = fold(rule, rule.init(parts.theta_0), theta, parts.theta_0)
        theta = merged(rule, state, parts.theta_0, scales[0])
    (counts,) = parts.test.evaluate([theta], parts.test.batches)
    rows = list(rows_of(counts, scenario, 1, "finetuned", None))
    assert len(rows) == num_rows_of_one(scenario)
    assert rows[0].count == len(scenario.test) and all(0 <= row.accuracy <= 1 for row in rows)
