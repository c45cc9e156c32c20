"""Compares numbers of images and classes with the publishers', per class if these are known."""

from collections.abc import Iterable

import numpy as np
import tensorflow_datasets as tfds

from magmax_jax.data.data_set import DataSet, FromTfds
from magmax_jax.data.prepare.fingerprint import Contents, title
from magmax_jax.errors import UserError, counted


def expected(data: DataSet | None, config: str | None) -> dict[str, int]:
    """Number of images that the publishers have in a split, or in several ("train+validation").

    Args:
      data: None for a builder that is not in `DATA_SETS`.
      config: of the TFDS builder.
    """
    if data is None or data.tfds is None:
        return {}
    facts = data.tfds
    if facts.domains == "configs" and config:
        train, test = facts.per_domain[config]
        return {facts.train: train, facts.test: test}
    if facts.split:  # one part is divided; `data` has the sizes of its shares
        return {facts.train: round(data.train_size / facts.split.train)}
    return {facts.train: data.train_size, facts.test: data.test_size}


def check(
    builder: tfds.core.DatasetBuilder, data: DataSet | None, found: dict[str, Contents], new: bool
) -> str:
    """Compares what was found with what is published; returns a one-line summary.

    Args:
      new: just prepared, so no part may be missing. Otherwise it may be a subset.

    Raises:
      UserError: there are more images than published, or fewer of a new data set, or a complete
        one has another number of classes or, where that is known, of images of a class.
    """
    counts, rest = [], dict(found)
    facts = (data and data.tfds) or FromTfds(builder=builder.name)
    for splits, images in expected(data, builder.builder_config_name).items():
        names = [name for name in splits.split("+") if name in found]
        have = sum(rest.pop(name).images for name in names)
        if have > images or (new and have < images):
            raise UserError(
                f"{title(builder)} has {have:,} images in {splits}, but {images:,} are published: "
                "the archives are not the publishers', or some are missing; fetch theirs"
            )
        if have < images:
            counts.append(f"{splits} a subset: {have:,} of {images:,}")
            continue
        counts.append(f"{splits} {have:,}")
        if data and facts.domains != "configs":
            _check_classes(builder, data, [found[name] for name in names], splits)
        for name in set(names) & set(facts.balanced):
            _check_equal(builder, found[name], name)
        for name in set(names) & set(facts.per_class):
            _check_each(builder, found[name], name, facts.per_class[name])
    counts += [f"{name} {contents.images:,}" for name, contents in rest.items()]
    if data and facts.domains == "configs" and " subset" not in str(counts):
        # The test images of a single domain need not cover every class.
        _check_classes(builder, data, list(found.values()), "all splits")
    return f"{', '.join(counts)}; {counted(_classes(found.values()), 'class')}"


def _check_classes(
    builder: tfds.core.DatasetBuilder, data: DataSet, parts: list[Contents], where: str
) -> None:
    classes = _classes(parts)
    if classes != data.classes:
        raise UserError(
            f"{title(builder)} has images of {classes} classes in {where}, of {data.classes} "
            "published: the archives are not the publishers'; fetch theirs"
        )


def _check_equal(builder: tfds.core.DatasetBuilder, contents: Contents, name: str) -> None:
    counts = set(contents.per_class) - {0}  # class names without images, as in imagenet_r
    if len(counts) != 1:
        raise UserError(
            f"{title(builder)} has {min(counts)} to {max(counts)} images of a class in {name}, but "
            "its publishers have as many of each: the archives are not the publishers'; "
            "fetch theirs"
        )


def _check_each(
    builder: tfds.core.DatasetBuilder,
    contents: Contents,
    name: str,
    published: tuple[int, ...],
) -> None:
    names = builder.info.features["label"].names
    for called, have, images in zip(names, contents.per_class, published, strict=False):
        if have != images:
            raise UserError(
                f"{title(builder)} has {have:,} images of the class {called} in {name}, of "
                f"{images:,} published: the archives are not the publishers'; fetch theirs"
            )


def _classes(parts: Iterable[Contents]) -> int:
    """Number of classes that have images."""
    return int(np.count_nonzero(np.sum([part.per_class for part in parts], axis=0)))
