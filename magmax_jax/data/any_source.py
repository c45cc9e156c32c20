"""Converts users' data, in many forms, into a `Source`, with checks."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from magmax_jax.data.readers.hugging_face import from_split, is_split
from magmax_jax.data.readers.objects import as_images, is_array
from magmax_jax.data.source import Images, Source
from magmax_jax.errors import UserError


def as_source(
    data: Any, class_names: Sequence[str] | None = None, *, where: str = "images"
) -> Source:
    """One split of a data set, from any of these:

    - an object with the members `images`, `labels` and `class_names`, such as a `Source`; it may
      also have `domains` and `domain_names`. Images are uint8 in [0, 255]: an array (n, height,
      width, 3), or (n, height, width) for grey; a list of arrays, of PIL images or of paths; or
      anything with `__len__` and `__getitem__(i)` that gives a PIL image or an array (height,
      width, 3). Labels are n integers, positions in `class_names`;
    - a tuple (images, labels, class_names), or (images, labels) with `class_names` given;
    - a split of Hugging Face `datasets` with an Image column and a ClassLabel column;
    - a PyTorch-style dataset: `data[i]` is (image, label, ...), and `data.classes` are the names;
    - a generator of (image, label), which is read into memory.

    Arrays, lists and generators are held in memory; paths, `datasets` and `__getitem__` are read on
    demand.

    Args:
      class_names: for data without names; by default the data's own.
      where: names the data in messages.

    Raises:
      UserError: it is not one of these; or images, labels and names do not match.
    """
    if isinstance(data, str | Path):
        raise UserError(
            f"{where}: {str(data)!r} is a path: a folder of images is named in the scenario, as "
            f"dataset='folder:{data}'"
        )
    if isinstance(data, tuple) and len(data) in (2, 3):
        names = data[2] if len(data) == 3 and class_names is None else class_names
        images, shape = as_images(data[0], where)
        return _source(images, shape, data[1], names, where)
    if all(hasattr(data, name) for name in ("images", "labels", "class_names")):
        return _from_members(data, class_names, where)
    if is_split(data):
        split = from_split(data, where)
        names = split.class_names if class_names is None else class_names
        return _source(split.images, split.image_shape, split.labels, names, where)
    indexed = hasattr(data, "__len__") and hasattr(data, "__getitem__")
    if indexed and not is_array(data) and not isinstance(data, Mapping):
        return _from_pairs(data, class_names, where)
    if isinstance(data, Iterable) and not is_array(data):
        pairs = [_pair(item, where) for item in data]
        images, shape = as_images([image for image, _ in pairs], where)
        return _source(images, shape, [label for _, label in pairs], class_names, where)
    raise UserError(
        f"{where}: a {type(data).__name__} is not a split of a data set: pass mm.Source(images, "
        "labels, class_names)"
    )


def _source(
    images: Images,
    shape: tuple[int, int] | None,
    labels: Any,
    class_names: Sequence[str] | None,
    where: str,
    domains: Any = None,
    domain_names: Sequence[str] = (),
) -> Source:
    """The source, with its labels, names and domains checked and converted."""
    if class_names is None or isinstance(class_names, str) or not len(class_names):
        raise UserError(
            f"{where}: there are no class names: pass them, in the order of the labels, as "
            "mm.as_source(data, class_names=[...])"
        )
    count = len(images)
    if domains is not None:
        domains = _positions(domains, "domain", domain_names, -1, count, where)
    return Source(
        images=images,
        labels=_positions(labels, "label", class_names, 0, count, where),
        class_names=tuple(map(str, class_names)),
        domains=domains,
        domain_names=() if domains is None else tuple(map(str, domain_names)),
        image_shape=shape,
    )


def _from_members(data: Any, class_names: Sequence[str] | None, where: str) -> Source:
    if isinstance(data, Source) and hasattr(data.images, "read"):  # made here, or by a reader
        images, shape = data.images, data.image_shape
    else:
        images, shape = as_images(data.images, where)
    return _source(
        images,
        shape,
        data.labels,
        data.class_names if class_names is None else class_names,
        where,
        getattr(data, "domains", None),
        getattr(data, "domain_names", ()),
    )


def _from_pairs(data: Any, class_names: Sequence[str] | None, where: str) -> Source:
    names = getattr(data, "classes", None) if class_names is None else class_names
    # Torchvision's `targets` avoid reading every image, unless a target_transform changes them.
    labels = getattr(data, "targets", None)
    if labels is None or getattr(data, "target_transform", None) is not None:
        labels = [_pair(data[i], where)[1] for i in range(len(data))]
    images, shape = as_images(_First(data, where), where)
    return _source(images, shape, labels, names, where)


def _positions(
    values: Any, what: str, names: Sequence[str], least: int, count: int, where: str
) -> np.ndarray:
    """int32 (count,), each at least `least` and a position in `names`.

    Args:
      what: name of one value, for messages.
    """
    try:
        found = np.asarray(values)
    except ValueError as error:
        raise UserError(
            f"{where}: {what}s cannot be read as an array ({error}): pass one integer for each "
            "image"
        ) from None
    if found.ndim != 1:
        how = "ravel()" if found.size == count else "argmax(axis=1)"
        raise UserError(f"{where}: {what}s have shape {found.shape}, not (n,): pass {what}s.{how}")
    if len(found) != count:
        raise UserError(
            f"{where}: there are {count} images and {len(found)} {what}s: pass one for each image"
        )
    if not count:
        raise UserError(f"{where}: there are no images: pass at least one")
    if found.dtype.kind not in "iu":
        raise UserError(
            f"{where}: {what}s are {found.dtype}: pass integers, positions in {len(names)} names"
        )
    wrong = np.flatnonzero((found < least) | (found >= len(names)))
    if wrong.size:
        raise UserError(
            f"{where}: {what} {found[wrong[0]]} of image {wrong[0]} is out of range: with "
            f"{len(names)} names they are {least} to {len(names) - 1}"
        )
    return found.astype(np.int32)


class _First(Sequence[Any]):
    """The images of (image, label) pairs, read on demand."""

    def __init__(self, pairs: Any, where: str):
        self._pairs, self._where = pairs, where

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: Any) -> Any:
        return _pair(self._pairs[index], self._where)[0]


def _pair(item: Any, where: str) -> tuple[Any, Any]:
    if not isinstance(item, list | tuple) or len(item) < 2:
        raise UserError(
            f"{where}: its items are {type(item).__name__}, not (image, label): pass "
            "mm.Source(images, labels, class_names)"
        )
    return item[0], item[1]
