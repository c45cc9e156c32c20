"""Configurations that contradict themselves are refused before anything is loaded."""

import dataclasses

import pytest

from magmax_jax.cli.grid.command import parse, select
from magmax_jax.config import (
    CheckpointConfig,
    ExperimentConfig,
    MethodConfig,
    ModelConfig,
    ScenarioConfig,
    SweepConfig,
)
from magmax_jax.errors import UserError
from magmax_jax.merging import rules
from magmax_jax.registry import RULES
from magmax_jax.runs.check import check_config
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.train import run

WRONG = [
    (ExperimentConfig(method=MethodConfig(regularizer="l2_sp")), "needs a method.strength"),
    (ExperimentConfig(method=MethodConfig(regularizer="lwf", joint=True)), "all tasks at once"),
    (
        ExperimentConfig(scenario=ScenarioConfig(kind="datasets", datasets=())),
        "scenario.datasets is empty: name the data sets of kind datasets, or a list of them",
    ),
    (
        ExperimentConfig(scenario=ScenarioConfig(kind="datasets", datasets=("dtd", "dtd@2"))),
        "names dtd twice",
    ),
    (
        ExperimentConfig(merges=("average", "fisher@0.5")),
        "^merges: fisher needs every model's F",
    ),
    (ExperimentConfig(merges=("slerp",)), "^merges: slerp needs 2 models, and a run merges after"),
    (ExperimentConfig(merges=("model_stock",)), "^merges: model_stock needs 2 models"),
    (
        ExperimentConfig(method=MethodConfig(start="fisher"), merges=()),
        "^method.start: fisher needs every model's Fisher",
    ),
    (
        ExperimentConfig(method=MethodConfig(start="slerp@0.5")),
        "^method.start: slerp needs 2 models, and task 2 starts from a merge of the first one",
    ),
    (ExperimentConfig(method=MethodConfig(start="task:1")), "^method.start is task:1: choose last"),
    (ExperimentConfig(method=MethodConfig(start="ema@")), "^method.start: 'ema@' needs a number"),
]


@pytest.mark.parametrize(("config", "message"), WRONG)
def test_a_run_is_refused_before_its_model_is_looked_for(config, message, tmp_path):
    with pytest.raises(UserError, match=message):
        check_config(config)
    nowhere = ModelConfig(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=message):
        run(
            dataclasses.replace(config, model=nowhere),
            RunDirectory(tmp_path / "out"),
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seed", [2**32, 2**32 + 7, 2**63, 10**20])
def test_seeds_that_jax_would_truncate_are_refused(seed, tmp_path):
    config = ExperimentConfig(model=ModelConfig(str(tmp_path / "nowhere")), seed=seed)
    with pytest.raises(UserError, match=rf"^seed is {seed}: .* seed {seed % 2**32}: choose one b"):
        run(config, RunDirectory(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_older_run_with_such_a_seed_continues(tmp_path):
    config = ExperimentConfig(
        model=ModelConfig(str(tmp_path / "nowhere")),
        scenario=ScenarioConfig(dataset="digits", num_tasks=5),
        seed=2**32 + 7,
    )
    out = RunDirectory(tmp_path / "out")
    out.start(config)
    assert ExperimentConfig.from_file(out.path / "config.json") == config
    with pytest.raises(UserError, match="nowhere"):  # it gets as far as looking for its model
        run(config, out)
    with pytest.raises(UserError, match=r"^seed is 4294967303"):
        run(config, RunDirectory(out.path, overwrite=True))


@pytest.fixture
def pair():
    """A rule for at most two models."""
    RULES.register("pair", lambda: rules.average()._replace(most_models=2))
    yield "pair"
    RULES.unregister("pair")


@pytest.mark.parametrize(
    ("merges", "start", "sweep", "message"),
    [
        (("pair",), "pair", (), "^merges: pair merges at most 2 models, and this run learns 5 tas"),
        ((), "pair", (), "^method.start: pair merges at most 2 models, and this run learns 5 tas"),
        ((), "last", ("pair",), "^sweep.rules: pair merges at most 2 models, and this run learns"),
        ((), "ema", ("slerp",), "^sweep.rules: slerp merges at most 2 models, and this run learns"),
    ],
)
def test_rules_for_fewer_models_than_tasks_are_refused_before_training(
    merges, start, sweep, message, pair, tmp_path
):
    config = ExperimentConfig(
        model=ModelConfig(str(tmp_path / "nowhere")),
        scenario=ScenarioConfig(dataset="digits", num_tasks=5),
        checkpoint=CheckpointConfig(keep_tasks=True),
        method=MethodConfig(start=start),
        merges=merges,
    )
    out = RunDirectory(tmp_path / "out")
    with pytest.raises(UserError, match=message):
        run(config, out, sweeps=SweepConfig(rules=sweep))
    assert not out.path.exists()


def test_a_grid_is_refused_before_any_cell_runs():
    grid, options, flags = parse(["smoke", "--method.strength", "3"])
    with pytest.raises(UserError, match="is chosen: name one"):
        select(grid, options, flags)
