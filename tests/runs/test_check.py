"""Configurations that contradict themselves are refused before anything is loaded."""

import pytest

from magmax_jax.cli.grid.command import parse, select
from magmax_jax.config import ExperimentConfig, MethodConfig, ModelConfig, ScenarioConfig
from magmax_jax.errors import UserError
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
]


@pytest.mark.parametrize(("config", "message"), WRONG)
def test_a_run_is_refused_before_its_model_is_looked_for(config, message, tmp_path):
    with pytest.raises(UserError, match=message):
        check_config(config)
    nowhere = ModelConfig(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=message):
        run(
            ExperimentConfig(nowhere, config.scenario, config.method),
            RunDirectory(tmp_path / "out"),
        )
    assert not (tmp_path / "out").exists()


def test_a_grid_is_refused_before_any_cell_runs():
    grid, options, flags = parse(["smoke", "--method.strength", "3"])
    with pytest.raises(UserError, match="is chosen: name one"):
        select(grid, options, flags)
