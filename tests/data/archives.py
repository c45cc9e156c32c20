"""Small archives of every data set, in their publishers' layouts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data import array_archives as arrays
from tests.data import picture_archives as pictures
from tests.data.packing import CLASSES, TEST, TRAIN
from tests.data.rows import ROWS, prepared_rows, with_tfds

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


PUBLISHED = {row.name: row for row in prepared_rows()}


def small(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Writes a data set's archives and adapts its row to them."""
    folder.mkdir(parents=True)
    splits = LAYOUTS[name](folder)
    data = ROWS[name]
    facts = data.tfds
    train = sum(splits[split] for split in facts.train.split("+"))
    test = 0 if facts.split else sum(splits[split] for split in facts.test.split("+"))
    if facts.split:
        train = round(train * facts.split.train)
    split = facts.split and replace(facts.split, fingerprint="")
    domains = dict.fromkeys(facts.per_domain, (CLASSES * TRAIN, CLASSES * TEST))
    entry = replace(data, classes=min(data.classes, CLASSES), train_size=train, test_size=test)
    entry = with_tfds(entry, split=split, per_class={}, per_domain=domains)
    monkeypatch.setitem(ROWS, name, entry)
    return splits


def readable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Restores the published row for reading, but without the fingerprint of its images."""
    data = PUBLISHED[name]
    split = data.tfds.split and replace(data.tfds.split, fingerprint="")
    monkeypatch.setitem(ROWS, name, with_tfds(data, split=split))
