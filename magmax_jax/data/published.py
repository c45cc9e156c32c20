"""Published facts about each data set: prompts, class names and orders of learning."""

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from magmax_jax.data.catalogue import find
from magmax_jax.data.own_names import WORDNET_ID, OwnNames, own_names, spaced
from magmax_jax.errors import UserError
from magmax_jax.inputs.prompts import ANY


def templates(dataset: str) -> tuple[str, ...]:
    """Published prompts, with {} in place of the class name; a plain one if there are none."""
    data = find(dataset)
    return data.templates if data else ANY


def order(dataset: str, names: Sequence[str]) -> np.ndarray | None:
    """The published order in which classes or domains are learned.

    Args:
      dataset: its name.
      names: all its class names or all its domain names, in the data set's own order.

    Returns:
      int64 (len(names),), indices into `names`; None if nothing is published for them.
    """
    data, position = find(dataset), {name: i for i, name in enumerate(names)}
    if data is None:
        return None
    if data.domain_names and set(data.domain_names) == set(names):
        return np.array([position[name] for name in data.domain_names])
    if not data.class_order or len(data.class_order) != len(names):
        return None
    # The order indexes the published list of names; another source may sort them differently.
    listed = data.class_names or tuple(names)
    if set(listed) == set(names):
        return np.array([position[listed[i]] for i in data.class_order])
    return np.array(data.class_order) if data.naming == "listed" else None


def published_domains(dataset: str) -> tuple[str, ...]:
    """Domain names in the published order, () if none is published."""
    data = find(dataset)
    return data.domain_names if data else ()


def wordnet_ids(dataset: str) -> dict[str, str]:
    """WordNet id -> class name, in the names' published order; {} if classes have no ids."""
    data = find(dataset)
    if data is None or not data.wordnet_ids:
        return {}
    return dict(zip(data.wordnet_ids, data.class_names, strict=True))


def prompt_names(dataset: str, class_names: Sequence[str], plain: bool = False) -> tuple[str, ...]:
    """Class names for prompts; `own_names` for data that is not published.

    Args:
      dataset: its name.
      class_names: all its class names, in the data set's own order.
      plain: always use spaces for underscores and slashes in the published names; otherwise some
        data sets keep theirs (`DataSet.naming`).

    Raises:
      UserError: a class is a WordNet id for which there is no name.
    """
    data = find(dataset)
    if data is None:
        return own_names(class_names, dataset).names
    listed, by_id = data.class_names, wordnet_ids(dataset)
    unnamed = [name for name in class_names if by_id and _is_id(name) and name not in by_id]
    if unnamed:
        raise UserError(
            f"{dataset}: WordNet id {unnamed[0]} is not one of its {len(by_id)} classes; use "
            "dataset folder with one folder per class that carries the class's name"
        )
    names = tuple(by_id.get(name, name) for name in class_names)
    known = set(listed) == set(names)
    if data.naming == "listed" and not known and len(listed) == len(names):
        names, known = listed, True  # for numbers or code words in the data set's own order
    if data.naming == "kept" or (data.naming == "listed" and known):
        return _cleaned(names) if plain else names
    return _cleaned(names, data.drop)


def names_as(
    style: Literal["published", "plain", "folder"],
    dataset: str,
    class_names: Sequence[str],
    title: str,
) -> OwnNames:
    """`prompt_names` in the style that a configuration asks for, and a note about them.

    Args:
      title: names the data in messages.

    Raises:
      UserError: as `prompt_names` does.
    """
    if style == "folder":
        return OwnNames(spaced(class_names))
    if find(dataset) is None:
        return own_names(class_names, title)
    return OwnNames(prompt_names(dataset, class_names, plain=style == "plain"))


def _cleaned(names: Sequence[str], drop: str = "") -> tuple[str, ...]:
    return spaced([re.sub(drop, "", name) if drop else name for name in names])


def _is_id(name: str) -> bool:
    return WORDNET_ID.fullmatch(name) is not None
