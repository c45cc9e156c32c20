"""What models are evaluated on: a run's own scenario, or test images alone."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from magmax_jax.config import ExperimentConfig, ScenarioConfig
from magmax_jax.registry import SCENARIO_KINDS
from magmax_jax.runs.locate import stored_config
from magmax_jax.runs.model_ref import model_of_run

if TYPE_CHECKING:  # reading images takes slow imports: --help does without
    from magmax_jax.scenarios import Scenario

ONE_TASK = ScenarioConfig(num_tasks=1)
"""How models that are no run are evaluated: on all classes of a data set at once."""


def first_run(sources: Iterable[str]) -> ExperimentConfig | None:
    """The configuration of the first run among sources, with paths that are found from here; None
    if none of them is a run.

    Raises:
      UserError: as `model_of_run` does, or the configuration is damaged.
    """
    run = next(filter(None, map(model_of_run, sources)), None)
    return stored_config(run[0]) if run else None


def evaluation_scenario(sources: Iterable[str], config: ScenarioConfig, seed: int) -> "Scenario":
    """The scenario on which sources are evaluated.

    Only test images are read, unless the data is that of the first run among the sources: its
    classes were fixed by its training images.

    Raises:
      UserError: as `build_scenario` does.
    """
    from magmax_jax.scenarios import build_scenario, build_test_scenario

    trained = first_run(sources)
    if trained and is_data_of(trained, config):
        return build_scenario(config, seed)
    return build_test_scenario(config, seed)


def is_data_of(trained: ExperimentConfig, config: ScenarioConfig) -> bool:
    """Whether a scenario reads the data of a run."""
    return _data(trained.scenario) == _data(config)


def _data(scenario: ScenarioConfig) -> tuple[str | tuple[str, ...], str | None]:
    return SCENARIO_KINDS[scenario.kind].data(scenario), scenario.data_dir
