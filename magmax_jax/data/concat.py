"""Joins several sources into one: the domains of a data set, or different data sets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from magmax_jax.data.pipeline.decode import read
from magmax_jax.data.source import Images, Source
from magmax_jax.errors import UserError


@dataclass(frozen=True)
class Joined:
    """Several sources' images, one after another."""

    parts: tuple[Images, ...]
    starts: np.ndarray
    """int64 (parts,): the index at which each part begins."""
    shapes: tuple[tuple[int, int] | None, ...]
    """(height, width) of all images of a part, None if they differ."""

    def __len__(self) -> int:
        return int(self.starts[-1]) + len(self.parts[-1])

    def __getitem__(self, index: int) -> np.ndarray:
        return self.read(index)

    def read(self, index: int, least: int | None = None) -> np.ndarray:
        """uint8 (height, width, 3); `least` as in `decode_rgb`."""
        part = int(np.searchsorted(self.starts, index, side="right")) - 1
        return read(self.parts[part], int(index - self.starts[part]), least)


def join_domains(parts: Sequence[Source], names: Sequence[str]) -> Source:
    """Joins the sources of a data set's domains.

    Args:
      parts: k sources with the same classes.
      names: of the k domains.

    Raises:
      UserError: the parts' classes differ.
    """
    classes = parts[0].class_names
    for part, name in zip(parts, names, strict=True):
        if part.class_names != classes:
            raise UserError(
                f"domains {names[0]} and {name} have different classes ({len(classes)} and "
                f"{len(part.class_names)}); prepare both again, from the same release"
            )
    return Source(
        images=_images(parts),
        labels=np.concatenate([part.labels for part in parts]),
        class_names=classes,
        domains=np.repeat(np.arange(len(parts), dtype=np.int32), _sizes(parts)),
        domain_names=tuple(names),
        image_shape=_image_shape(parts),
    )


def join_datasets(parts: Sequence[Source], names: Sequence[str]) -> Source:
    """Joins different data sets in the given order.

    Every data set keeps its own classes, even if two have the same name: those of part i begin
    where those of part i - 1 end. Domains are named "data set/domain".

    Args:
      parts: k sources.
      names: of the k data sets.
    """
    classes = _starts([len(part.class_names) for part in parts])
    domains = _starts([len(part.domain_names) for part in parts])
    labels, places = [], []
    for part, first_class, first_domain in zip(parts, classes, domains, strict=True):
        own = np.full(len(part), -1, np.int32) if part.domains is None else part.domains
        labels.append(part.labels + np.int32(first_class))
        places.append(np.where(own < 0, own, own + np.int32(first_domain)))
    named = list(zip(names, parts, strict=True))
    domain_names = tuple(f"{name}/{domain}" for name, part in named for domain in part.domain_names)
    return Source(
        images=_images(parts),
        labels=np.concatenate(labels),
        class_names=tuple(name for part in parts for name in part.class_names),
        domains=np.concatenate(places) if domain_names else None,
        domain_names=domain_names,
        image_shape=_image_shape(parts),
    )


def _images(parts: Sequence[Source]) -> Joined:
    shapes = tuple(part.image_shape for part in parts)
    return Joined(tuple(part.images for part in parts), _starts(_sizes(parts)), shapes)


def _sizes(parts: Sequence[Source]) -> list[int]:
    return [len(part) for part in parts]


def _starts(sizes: list[int]) -> np.ndarray:
    """int64 (k,): the start of each of k pieces."""
    return np.cumsum(sizes) - sizes


def _image_shape(parts: Sequence[Source]) -> tuple[int, int] | None:
    shapes = {part.image_shape for part in parts}
    return shapes.pop() if len(shapes) == 1 else None
