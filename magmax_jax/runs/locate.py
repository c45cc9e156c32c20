"""Finds a run's model and data from any working directory, and after a move.

`config.json` keeps what the user wrote. `about.json` records, for each of its paths, the absolute
path and the path relative to the run's directory.
"""

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from magmax_jax.config import ExperimentConfig
from magmax_jax.data.folder_name import folder_of
from magmax_jax.errors import UserError
from magmax_jax.io import hub, hub_cache
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.file_names import CONFIG
from magmax_jax.runs.fingerprint import MODELS, data_of, directories, fingerprint, value_of
from magmax_jax.runs.recorded import changes

Paths = Mapping[str, Sequence[str]]
"""Path as written -> the absolute path, and the path relative to the run's directory."""


def stored_config(run: Path) -> ExperimentConfig:
    """A run's configuration, with paths that lead to its model and data from here.

    Raises:
      UserError: the configuration is damaged.
    """
    return located(run, ExperimentConfig.from_file(run / CONFIG))


def located(run: Path, config: ExperimentConfig) -> ExperimentConfig:
    """A run's configuration with paths that exist: as written, as they were when the run started,
    or relative to the run; if several exist, those that contain what was recorded.

    If nothing is found, the recorded paths are used, so that messages name them. Without a record,
    the configuration is returned unchanged.
    """
    record = RunDirectory(run).recorded()
    if not record.get("paths"):
        return config

    def same_models(config: ExperimentConfig) -> bool:
        now = fingerprint(directories(config, hub.cached))
        return len(now.models) == len(record.get("models", {})) and not changes(run, record, now)

    def same_data(config: ExperimentConfig) -> bool:
        return not changes(run, record, fingerprint({}, data_of(config.scenario)))

    for written, moved, same in (
        (_models, with_models, same_models),
        (_folders, _with_folders, same_data),
    ):
        known = [text for text in written(config) if text in record["paths"]]
        found = {text: _options(run, text, record["paths"][text]) for text in known}
        choices = [
            moved(config, {text: each[min(n, len(each) - 1)] for text, each in found.items()})
            for n in range(max(map(len, found.values()), default=1))
        ]
        config = _first(choices, same) if len(choices) > 1 else choices[0]
    return config


def paths_of(
    run: Path, config: ExperimentConfig, found: ExperimentConfig, models: Mapping[str, Path]
) -> dict[str, list[str]]:
    """The locations of a configuration's paths, to be recorded.

    Args:
      found: the same configuration as returned by `located`.
      models: from `fingerprint.directories`.
    """
    sources = dict(zip(_models(found), models.values(), strict=True))
    written = [*_models(config), *_folders(config)]
    places = [sources.get(text, Path(text)) for text in (*_models(found), *_folders(found))]
    absolute = [os.path.abspath(place.expanduser()) for place in places]
    here = os.path.abspath(run)
    return {
        text: [place, os.path.relpath(place, here)]
        for text, place in zip(written, absolute, strict=True)
        if os.path.isdir(place)
    }


def _options(run: Path, text: str, recorded: Sequence[str]) -> list[str]:
    """Existing directories that a path may mean; the recorded one if none exists.

    Args:
      recorded: its value in `Paths`.
    """
    place, from_run = recorded
    on_hub = hub_cache.repository(Path(place)) is not None
    beside = os.path.normpath(run.absolute() / from_run)
    # The recorded snapshot comes before the hub id, which may resolve to a newer one.
    options = [place, text] if on_hub else [text, place, beside]
    there: dict[str, str] = {}
    for option in options:
        path = Path(option).expanduser()
        # A relative path may look like a hub id.
        directory = hub.cached(option) if on_hub else path if path.is_dir() else None
        if directory is not None:
            there.setdefault(os.path.realpath(directory), option)
    return list(there.values()) or [text if on_hub else place]


def _first(
    choices: Sequence[ExperimentConfig], same: Callable[[ExperimentConfig], bool]
) -> ExperimentConfig:
    """The first choice that contains what was recorded, or else the first one."""
    for config in choices:
        with contextlib.suppress(UserError):  # something else is there
            if same(config):
                return config
    return choices[0]


def _models(config: ExperimentConfig) -> list[str]:
    values: list[Any] = [value_of(config, name) for name in MODELS]
    return [value for value in values if value is not None]


def with_models(config: ExperimentConfig, moved: Mapping[str, str]) -> ExperimentConfig:
    """The configuration with its model paths replaced, by a mapping from old path to new."""
    values = {name: value_of(config, name) for name in MODELS}
    return config.replace(**{name: moved.get(value, value) for name, value in values.items()})


def _folders(config: ExperimentConfig) -> list[str]:
    """The data directories that a configuration names."""
    from magmax_jax.scenarios import members_of  # imports the image readers

    scenario = config.scenario
    named = [folder_of(member.dataset, None) for member in members_of(scenario)]
    return [text for text in (scenario.data_dir, *named) if text]


def _with_folders(config: ExperimentConfig, moved: Mapping[str, str]) -> ExperimentConfig:
    scenario = config.scenario

    def dataset(text: str) -> str:
        for old, new in moved.items():
            epochs = text.removeprefix(f"folder:{old}")
            if epochs != text and epochs[:1] in ("", "@"):
                return f"folder:{new}{epochs}"
        return text

    return replace(
        config,
        scenario=replace(
            scenario,
            data_dir=moved.get(scenario.data_dir or "", scenario.data_dir),
            dataset=dataset(scenario.dataset),
            datasets=tuple(map(dataset, scenario.datasets)),
        ),
    )
