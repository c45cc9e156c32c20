"""Parses a configuration's sequence of data sets, NAME[@EPOCHS] each."""

from collections.abc import Sequence
from typing import NamedTuple

from magmax_jax.config import ScenarioConfig
from magmax_jax.data.catalogue import LISTS, epochs
from magmax_jax.data.folder_name import folder_of, is_existing_folder, is_folder, title_of
from magmax_jax.errors import ConfigError
from magmax_jax.registry import SCENARIO_KINDS


class Member(NamedTuple):
    """One data set of a scenario.

    Attributes:
      dataset: as `load_source` takes it.
      name: for display; also the name of its task in a sequence of data sets.
      epochs: per task.
    """

    dataset: str
    name: str
    epochs: int


def members_of(config: ScenarioConfig) -> list[Member]:
    """A scenario's data sets in listed order; a single one unless its kind reads several.

    Raises:
      UserError: as `parse_datasets` does, or the list is empty.
    """
    if SCENARIO_KINDS[config.kind].reads_several:
        if not config.datasets:
            raise ConfigError(
                f"scenario.datasets is empty: name the data sets of kind {config.kind}, or a list "
                "of them"
            )
        return parse_datasets(config.datasets)
    name = title_of(config.dataset, config.data_dir)
    return [Member(config.dataset, name, epochs(config.dataset))]


def parse_datasets(texts: Sequence[str]) -> list[Member]:
    """Parses `NAME`, `NAME@EPOCHS`, `folder:DIR`, or the name of a list of them.

    An existing folder's name is taken literally, even if it ends like `pets@3`: for 3 epochs of a
    sibling `pets`, write `folder:pets/@3`.

    Raises:
      UserError: an EPOCHS is not a positive number, or two data sets share a name.
    """
    members = [_parse(text) for given in texts for text in LISTS.get(given, (given,))]
    names = [member.name for member in members]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"scenario.datasets names {name} twice: leave one of them out")
    return members


def _parse(text: str) -> Member:
    dataset, at, number = text.rpartition("@")
    if not at or "/" in number or is_existing_folder(text):  # a folder's path may contain an @
        dataset, number = text, ""
    elif not number.isdecimal() or not int(number):
        or_folder = f", or there is no folder {folder_of(text, None)}" if is_folder(text) else ""
        raise ConfigError(
            f"scenario.datasets: {text!r} needs a number of epochs after the @{or_folder}"
        )
    name = title_of(dataset, None)
    if not name:
        raise ConfigError(
            f"scenario.datasets: {text!r} names no data set: write NAME, NAME@EPOCHS or folder:DIR"
        )
    return Member(dataset, name, int(number) if number else epochs(dataset))
