"""What the literature fixed for each data set: prompts, class names and orders of learning.

The tables are JSON beside this file, by the names of `catalogue`. Templates: the prompt sets
published with CLIP, and for emnist and kmnist those of the TALL masks code (arXiv 2405.07813).
Class and domain orders: those of the MagMax experiments (arXiv 2407.06322). Class names: of
imagenet, flowers102 and pcam CLIP's; of cub200 the archive's; of the others those of MagMax.
"""

import json
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from magmax_jax.data.datasets.catalogue import DataSet, builder_of, find
from magmax_jax.errors import UserError


def templates(dataset: str) -> tuple[str, ...]:
    """Published prompts, {} standing for the class name; a plain one where there are none."""
    data = find(dataset)
    return tuple(_table("templates")[data.templates]) if data else ("a photo of a {}.",)


def order(dataset: str, names: Sequence[str]) -> np.ndarray | None:
    """The published order in which classes or domains are learned.

    Args:
      dataset: its name.
      names: all its class names or all its domain names, in the data set's own order.

    Returns:
      int64 (len(names),), indices into `names`; None where nothing is published for them.
    """
    data, position = find(dataset), {name: i for i, name in enumerate(names)}
    domains = published_domains(dataset)
    if domains and set(domains) == set(names):
        return np.array([position[name] for name in domains])
    indices = _table("class_orders").get(data.name) if data else None
    if indices is None or len(indices) != len(names):
        return None
    # The order counts in the published list of names; another source may sort them differently.
    listed = _listed(data) or tuple(names)
    if set(listed) == set(names):
        return np.array([position[listed[i]] for i in indices])
    return np.array(indices) if data.naming == "listed" else None


def published_domains(dataset: str) -> tuple[str, ...]:
    """Domain names in the published order, () where there is none."""
    data = find(dataset)
    return tuple(_table("domain_orders").get(data.name, ())) if data else ()


def expand(dataset: str) -> tuple[tuple[str, ...], DataSet | None]:
    """What TFDS calls a data set, a :version included, and its entry in the catalogue.

    Returns:
      one builder, or one for each domain in alphabetical order where configs are domains and none
      is named; None for a builder or a config that the catalogue does not have.
    """
    data, name = find(dataset), builder_of(dataset)
    if data is None or data.domains != "configs" or "/" in name:
        return (name,), data
    base, colon, version = name.partition(":")
    domains = sorted(published_domains(dataset))
    return tuple(f"{base}/{domain}{colon}{version}" for domain in domains), data


def wordnet_ids(dataset: str) -> dict[str, str]:
    """WordNet id -> class name, in the names' published order; {} where classes carry no ids."""
    data = find(dataset)
    names = _table("class_names").get(data.name) if data else None
    return {key: name for name, key in names.items()} if isinstance(names, dict) else {}


def prompt_names(dataset: str, class_names: Sequence[str], plain: bool = False) -> tuple[str, ...]:
    """Class names as they are put into prompts.

    Args:
      dataset: its name.
      class_names: all its class names, in the data set's own order.
      plain: the published names with spaces for underscores and slashes throughout; cifar100's
        keep their underscores otherwise.

    Raises:
      UserError: classes are WordNet ids for which there is no name.
    """
    data = find(dataset)
    if data is None:
        return _cleaned(class_names)
    listed, by_id = _listed(data), wordnet_ids(dataset)
    unnamed = [name for name in class_names if by_id and _is_id(name) and name not in by_id]
    if unnamed:
        raise UserError(
            f"{dataset}: WordNet id {unnamed[0]} is none of its {len(by_id)} classes; use dataset "
            "folder with one folder per class that carries the class's name"
        )
    names = tuple(by_id.get(name, name) for name in class_names)
    known = set(listed) == set(names)
    if data.naming == "listed" and not known and len(listed) == len(names):
        names, known = listed, True  # for numbers or code words in the data set's own order
    if data.naming == "kept" or (data.naming == "listed" and known):
        return _cleaned(names) if plain else names
    return _cleaned(names, data.drop)


def _cleaned(names: Sequence[str], drop: str = "") -> tuple[str, ...]:
    kept = (re.sub(drop, "", name) if drop else name for name in names)
    return tuple(re.sub(r"[\s_/]+", " ", name).strip() for name in kept)


def _is_id(name: str) -> bool:
    return re.fullmatch(r"n\d{8}", name) is not None


def _listed(data: DataSet) -> tuple[str, ...]:
    """The published class names, () where the data set's own ones count."""
    return tuple(_table("class_names").get(data.name, ()))


def _table(name: str) -> dict[str, Any]:
    path = resources.files("magmax_jax.data.datasets") / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))
