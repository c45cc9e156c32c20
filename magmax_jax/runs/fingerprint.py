"""Identifies theta_0 and the data of a run by digests of the files that they are read from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magmax_jax.config import ExperimentConfig
from magmax_jax.config.scenario import ScenarioConfig
from magmax_jax.data.files import Place, Sizes, digest_of, places
from magmax_jax.data.source import Split
from magmax_jax.errors import UserError
from magmax_jax.io import hub
from magmax_jax.io.model_files import Digests, digests
from magmax_jax.registry import SCENARIO_KINDS
from magmax_jax.runs.differences import PATHS

if TYPE_CHECKING:  # reading images needs slow imports, which a report avoids
    from magmax_jax.scenarios import Scenario

MODELS = tuple(name for name in PATHS if name.startswith("model."))
"""Configuration fields that name the models from which theta_0 and the head are read."""
PIXELS = "pixels"
"""Kind of data that is not read from known files: its pixels are sampled."""


@dataclass(frozen=True)
class Fingerprint:
    """Identifies a run's inputs.

    Attributes:
      models: field of `MODELS` -> the model's absolute directory.
      digests: field -> part -> file -> sha256.
      data: one entry per data directory, as in about.json: dataset, kind, path, number of files and
        bytes, and a digest of names and sizes, or of sampled pixels if there are no files.
      sizes: data directory -> its files and their sizes.
    """

    models: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, Digests] = field(default_factory=dict)
    data: Sequence[Mapping[str, Any]] = ()
    sizes: Mapping[str, Sizes] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[Any, ...]:
        """Equal for equal inputs, wherever they are stored."""
        return self.digests, [(entry["dataset"], entry["digest"]) for entry in self.data]


def value_of(config: ExperimentConfig, name: str) -> Any:
    """A field of the configuration by its dotted name."""
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def directories(
    config: ExperimentConfig, find: Callable[[str], Path | None] = hub.locate
) -> dict[str, Path]:
    """Field of `MODELS` -> the directory of the model that it names, if `find` finds one.

    Raises:
      UserError: as `find` does.
    """
    sources = {name: value for name in MODELS if (value := value_of(config, name)) is not None}
    found = {name: find(source) for name, source in sources.items()}
    return {name: path.absolute() for name, path in found.items() if path is not None}


def fingerprint(
    models: Mapping[str, Path],
    data: "Sequence[Entry]" = (),
    listed: dict[Place, Sizes] | None = None,
) -> Fingerprint:
    """Reads all files of the models and the names and sizes of those of the data.

    Args:
      listed: data directories that were listed already; others are added.

    Raises:
      UserError: a file of a model cannot be read.
    """
    entries: list[dict[str, Any]] = []
    listed = {} if listed is None else listed
    sizes_of: dict[str, Sizes] = {}
    for dataset, where in data:
        if isinstance(where, str):
            entries.append({"dataset": dataset, "kind": PIXELS, "digest": where})
            continue
        if where not in listed:
            listed[where] = where.sizes()
        sizes = sizes_of[where.path] = listed[where]
        facts = {"files": len(sizes), "bytes": sum(sizes.values()), "digest": digest_of(sizes)}
        entries.append({"dataset": dataset, "kind": where.kind, "path": where.path} | facts)
    return Fingerprint(
        {name: str(path) for name, path in models.items()},
        {name: digests(path) for name, path in models.items()},
        entries,
        sizes_of,
    )


Entry = tuple[str, Place | str]
"""A data set and a directory of its files, or the digest of its sampled pixels."""


def data_of(config: ScenarioConfig, scenario: "Scenario | None" = None) -> list[Entry]:
    """The entries of a scenario's data sets, in listed order.

    Args:
      scenario: built from the configuration; without it, data sets that are not read from known
        files are left out.

    Raises:
      UserError: the list of data sets is invalid.
    """
    from magmax_jax.data.digest import digest
    from magmax_jax.data.load import load_source
    from magmax_jax.scenarios.datasets_list import members_of

    entries: list[Entry] = []
    for member in members_of(config):
        where = places(member.dataset, config.data_dir)
        if where is not None:
            entries += [(member.dataset, place) for place in where]
        elif scenario is not None:
            sources = [scenario.train, scenario.test]
            if SCENARIO_KINDS[config.kind].reads_several:  # concatenated in learning order
                splits: tuple[Split, Split] = ("train", "test")
                sources = [load_source(member.dataset, each, config.data_dir) for each in splits]
            entries.append((member.dataset, digest(sources)))
    return entries


def on_this_machine(models: Mapping[str, str]) -> dict[str, Path]:
    """The models that a run read and that are still complete where they were."""
    found = {}
    for name, text in models.items():
        path = Path(text)
        try:
            digests(path)  # cached, so reading them again is free
        except UserError:
            continue
        found[name] = path
    return found
