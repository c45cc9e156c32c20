"""Numbers of images and of classes against the publishers', of each class where these are known."""

import numpy as np
import tensorflow_datasets as tfds

from magmax_jax.data.datasets.catalogue import DataSet
from magmax_jax.data.prepare.fingerprint import Contents, title
from magmax_jax.errors import UserError

_DOMAINNET = {
    "clipart": (33_525, 14_604),
    "infograph": (36_023, 15_582),
    "painting": (50_416, 21_850),
    "quickdraw": (120_750, 51_750),
    "real": (120_906, 52_041),
    "sketch": (48_212, 20_916),
}
"""Its domains' images for training and for testing, which the catalogue holds summed."""

_EQUAL = {
    "cifar10": ("train", "test"),
    "cifar100": ("train", "test"),
    "dtd": ("train", "validation", "test"),
    "emnist": ("train", "test"),
    "fashion_mnist": ("train", "test"),
    "flowers102": ("train", "validation"),
    "food101": ("train", "validation"),
    "imagenet": ("validation",),
    "kmnist": ("train", "test"),
    "resisc45": ("train",),
    "stl10": ("train", "test"),
    "sun397": ("train", "test"),
}
"""Data set -> TFDS splits in which its publishers have as many images of each class."""

_EACH = {
    "eurosat": {"train": (3000, 3000, 3000, 2500, 2500, 2000, 2500, 3000, 2500, 3000)},
    "mnist": {
        "train": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
        "test": (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
    },
    "svhn": {
        "train": (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
        "test": (1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595),
    },
}
"""Data set -> TFDS split -> its publishers' images of each class, in the builder's order."""


def expected(data: DataSet | None, config: str | None) -> dict[str, int]:
    """Images that the publishers have in a split, or in several ("train+validation").

    Args:
      data: an entry of the catalogue; None for a data set that is not there.
      config: of the TFDS builder.
    """
    if data is None:
        return {}
    if data.domains == "configs":
        train, test = _DOMAINNET[config]
        return {data.train: train, data.test: test}
    if data.split:  # it divides one part, of which the catalogue has the shares
        return {data.train: round(data.train_size / data.split.train)}
    return {data.train: data.train_size, data.test: data.test_size}


def check(
    builder: tfds.core.DatasetBuilder, data: DataSet | None, found: dict[str, Contents], new: bool
) -> str:
    """Compares what was found with what is published; says it in a line.

    Args:
      new: prepared just now, so that no part of it may be missing. Elsewhere a part may: a subset.

    Raises:
      UserError: there are more images than published, or fewer of a new data set, or a complete
        one has another number of classes or, where that is known, of images of a class.
    """
    told, rest = [], dict(found)
    for splits, images in expected(data, builder.builder_config_name).items():
        names = [name for name in splits.split("+") if name in found]
        have = sum(rest.pop(name).images for name in names)
        if have > images or (new and have < images):
            raise UserError(
                f"{title(builder)} has {have:,} images in {splits}, of {images:,} published: the "
                "archives are not the publishers', or not all of them"
            )
        if have < images:
            told.append(f"{splits} a subset: {have:,} of {images:,}")
            continue
        told.append(f"{splits} {have:,}")
        if data.domains != "configs":
            _check_classes(builder, data, [found[name] for name in names], splits)
        for name in set(names) & set(_EQUAL.get(data.name, ())):
            _check_equal(builder, found[name], name)
        for name in set(names) & set(_EACH.get(data.name, ())):
            _check_each(builder, found[name], name, _EACH[data.name][name])
    told += [f"{name} {contents.images:,}" for name, contents in rest.items()]
    if data and data.domains == "configs" and " subset" not in str(told):
        # A single domain's images for testing need not show every class.
        _check_classes(builder, data, list(found.values()), "all splits")
    return f"{', '.join(told)}; {_classes(found.values())} classes"


def _check_classes(builder, data: DataSet, parts: list[Contents], where: str) -> None:
    classes = _classes(parts)
    if classes != data.classes:
        raise UserError(
            f"{title(builder)} has images of {classes} classes in {where}, of {data.classes} "
            "published: the archives are not the publishers'"
        )


def _check_equal(builder, contents: Contents, name: str) -> None:
    counts = set(contents.per_class) - {0}  # names of classes that have none, as in imagenet_r
    if len(counts) != 1:
        raise UserError(
            f"{title(builder)} has {min(counts)} to {max(counts)} images of a class in {name}, but "
            "its publishers have as many of each: the archives are not the publishers'"
        )


def _check_each(builder, contents: Contents, name: str, published: tuple[int, ...]) -> None:
    names = builder.info.features["label"].names
    for called, have, images in zip(names, contents.per_class, published, strict=False):
        if have != images:
            raise UserError(
                f"{title(builder)} has {have:,} images of the class {called} in {name}, of "
                f"{images:,} published: the archives are not the publishers'"
            )


def _classes(parts) -> int:
    """How many classes have images."""
    return int(np.count_nonzero(np.sum([part.per_class for part in parts], axis=0)))
