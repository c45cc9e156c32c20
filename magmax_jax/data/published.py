"""What the literature fixed for each data set: prompts, class names and orders of learning.

The tables are JSON beside this file. Templates: the prompt sets published with CLIP. Class and
domain orders and the names put into prompts: those of the MagMax experiments (arXiv 2407.06322).
"""

import json
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from magmax_jax.errors import UserError

ALIASES = {
    "cub200": "caltech_birds2011",
    "cars": "cars196",
    "svhn": "svhn_cropped",
}
"""Names in papers -> names in TFDS."""

_TEMPLATES = {
    "caltech_birds2011": "objects",
    "cars196": "cars",
    "cifar10": "tiny",
    "cifar100": "tiny",
    "digits": "numbers",
    "domainnet": "objects",
    "dtd": "textures",
    "eurosat": "eurosat",
    "food101": "food",
    "gtsrb": "signs",
    "imagenet2012": "objects",
    "imagenet_r": "objects",
    "mnist": "numbers",
    "resisc45": "aerial",
    "stl10": "plain",
    "sun397": "plain",
    "svhn_cropped": "numbers",
}
"""Data set -> its set in templates.json."""

_NOT_IN_PROMPTS = {"caltech_birds2011": r"^\d+\.", "sun397": r"^/\w/"}
"""Parts of class names that number or sort them: "001.Laysan_Albatross", "/a/abbey"."""


def canonical(dataset: str) -> str:
    """The name under which the tables and TFDS know a data set: "cub200" -> "caltech_birds2011"."""
    return ALIASES.get(dataset, dataset)


def templates(dataset: str) -> tuple[str, ...]:
    """Published prompts, {} standing for the class name; a plain one where there are none."""
    name = _TEMPLATES.get(_key(dataset))
    return tuple(_table("templates")[name]) if name else ("a photo of a {}.",)


def order(dataset: str, names: Sequence[str]) -> np.ndarray | None:
    """The published order in which classes or domains are learned.

    Args:
      dataset: its name.
      names: all its class names or all its domain names, in the data set's own order.

    Returns:
      int64 (len(names),), indices into `names`; None where nothing is published for them.
    """
    key, position = _key(dataset), {name: i for i, name in enumerate(names)}
    domains = published_domains(key)
    if domains and set(domains) == set(names):
        return np.array([position[name] for name in domains])
    indices = _table("class_orders").get(key)
    if indices is None or len(indices) != len(names):
        return None
    # The order counts in the published list of names; another source may sort them differently.
    listed = _table("class_names").get(key, names)
    return np.array([position[listed[i]] for i in indices]) if set(listed) == set(names) else None


def published_domains(dataset: str) -> tuple[str, ...]:
    """Domain names in the published order, () where there is none."""
    return tuple(_table("domain_orders").get(_key(dataset), ()))


def prompt_names(dataset: str, class_names: Sequence[str], plain: bool = False) -> tuple[str, ...]:
    """Class names as they are put into prompts.

    The published names where there are some: cifar100's, imagenet_r's and domainnet's keep their
    underscores, as in the paper. Elsewhere underscores and slashes become spaces.

    Raises:
      UserError: the classes of imagenet_r are WordNet ids, which no text tower understands.
    """
    key = _key(dataset)
    listed = _table("class_names").get(key)
    if key == "cifar100" or (listed and set(listed) == set(class_names)):
        return tuple(class_names)
    if key == "imagenet_r":
        raise UserError(
            "imagenet_r: its classes are WordNet ids here; use dataset folder with one folder per "
            "class that carries the class's name"
        )
    if listed and len(listed) == len(class_names):
        return tuple(listed)  # numbers or code words in the data set's own order
    prefix = _NOT_IN_PROMPTS.get(key, "^$")
    return tuple(re.sub(r"[_/]+", " ", re.sub(prefix, "", name)).strip() for name in class_names)


def _key(dataset: str) -> str:
    return canonical(dataset).split("/")[0].split(":")[0]  # without TFDS's /config and :version


def _table(name: str) -> dict[str, Any]:
    path = resources.files("magmax_jax.data") / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))
