"""Every data set's archives, small, in their publishers' own layouts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from magmax_jax.data.datasets import catalogue
from magmax_jax.data.prepare import expected
from tests.data import array_archives as arrays
from tests.data import picture_archives as pictures
from tests.data.packing import CLASSES

LAYOUTS: dict[str, Callable[[Path], dict[str, int]]] = {
    "cifar10": arrays.cifar10,
    "cifar100": arrays.cifar100,
    "imagenet_r": pictures.imagenet_r,
    "cub200": pictures.cub200,
    "cars": pictures.cars,
    "domainnet": pictures.domainnet,
    "mnist": arrays.mnist,
    "svhn": arrays.svhn,
    "eurosat": pictures.eurosat,
    "resisc45": pictures.resisc45,
    "sun397": pictures.sun397,
    "dtd": pictures.dtd,
    "gtsrb": pictures.gtsrb,
    "stl10": arrays.stl10,
    "food101": pictures.food101,
    "fashion_mnist": arrays.mnist,
    "imagenet": pictures.imagenet,
    "flowers102": pictures.flowers102,
    "pets": pictures.pets,
    "pcam": arrays.pcam,
    "emnist": arrays.emnist,
    "kmnist": arrays.mnist,
}


PUBLISHED = dict(catalogue.DATA_SETS)


def small(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Writes a data set's archives, and makes the tables say what is in them."""
    folder.mkdir(parents=True)
    splits = LAYOUTS[name](folder)
    data = catalogue.DATA_SETS[name]
    train = sum(splits[split] for split in data.train.split("+"))
    test = 0 if data.split else sum(splits[split] for split in data.test.split("+"))
    if data.split:
        train = round(train * data.split.train)
    split = data.split and replace(data.split, fingerprint="")
    entry = replace(
        data, split=split, classes=min(data.classes, CLASSES), train_size=train, test_size=test
    )
    monkeypatch.setitem(catalogue.DATA_SETS, name, entry)
    monkeypatch.delitem(expected._EACH, name, raising=False)
    return splits


def readable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the catalogue say again what it does, for reading; but the images may be others."""
    data = PUBLISHED[name]
    split = data.split and replace(data.split, fingerprint="")
    monkeypatch.setitem(catalogue.DATA_SETS, name, replace(data, split=split))
