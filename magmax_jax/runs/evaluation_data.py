"""The data that models are evaluated on: a run's own scenario, or test images only."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from magmax_jax.config import ExperimentConfig, ScenarioConfig
from magmax_jax.registry import SCENARIO_KINDS
from magmax_jax.runs.model_ref import model_of_run

if TYPE_CHECKING:  # reading images needs slow imports, which --help avoids
    from magmax_jax.scenarios import Scenario

ONE_TASK = ScenarioConfig(num_tasks=1)
"""How models outside runs are evaluated: on all classes of a data set together."""


def first_run(sources: Iterable[str]) -> ExperimentConfig | None:
    """The configuration of the first run among the sources, with paths resolved from here; None if
    none of them is a run.

    Raises:
      UserError: as `model_of_run` does, or the configuration is damaged.
    """
    run = _first(sources)
    if run is None:
        return None
    from magmax_jax.runs.locate import stored_config  # which imports the hub's client

    return stored_config(run)


def evaluation_scenario(sources: Iterable[str], config: ScenarioConfig, seed: int) -> "Scenario":
    """The scenario on which the sources are evaluated.

    Only test images are read, unless the data is that of the first run among the sources: its
    classes were fixed by its training images.

    Raises:
      UserError: as `build_scenario` does.
    """
    from magmax_jax.scenarios import build_scenario, build_test_scenario

    sources = tuple(sources)
    trained, recorded = first_run(sources), recorded_names(sources)
    if trained and is_data_of(trained, config):
        scenario = build_scenario(config, seed, recorded=recorded)
        others = _of_other_names(sources, config, recorded)
        return replace(scenario, notes=(*scenario.notes, *others))
    return build_test_scenario(config, seed, recorded)


def recorded_names(sources: Iterable[str]) -> tuple[str, ...]:
    """The class names that the first run among the sources made its head from; () if unknown."""
    from magmax_jax.runs.manifest import class_names

    run = _first(sources)
    return class_names(run) if run else ()


def _of_other_names(
    sources: Iterable[str], config: ScenarioConfig, recorded: tuple[str, ...]
) -> list[str]:
    """A warning for each run on this data whose head was made from other names than the first's."""
    from magmax_jax.runs.locate import stored_config
    from magmax_jax.runs.manifest import class_names

    found = []
    for source in sources:
        run = model_of_run(source)
        if run and is_data_of(stored_config(run[0]), config):
            names = class_names(run[0])
            if recorded and names and sorted(names) != sorted(recorded):
                other = min(set(names) - set(recorded) or names)
                found.append(
                    f"{source} was trained with other class names ({other!r}) than the first run, "
                    "whose prompts are used for all: evaluate it separately"
                )
    return found


def _first(sources: Iterable[str]) -> Path | None:
    """The directory of the first run among the sources."""
    run = next(filter(None, map(model_of_run, sources)), None)
    return run[0] if run else None


def is_data_of(trained: ExperimentConfig, config: ScenarioConfig) -> bool:
    """Whether a scenario reads the same data as a run."""
    return _data(trained.scenario) == _data(config)


def _data(scenario: ScenarioConfig) -> tuple[str | tuple[str, ...], str | None]:
    return SCENARIO_KINDS[scenario.kind].data(scenario), scenario.data_dir
