"""A name for data passed from Python, computed from the data."""

import hashlib
from collections.abc import Iterable

import numpy as np

from magmax_jax.data.source import Source

SAMPLED = 64
"""Number of images per split whose pixels are hashed."""


def digest(sources: Iterable[Source]) -> str:
    """16 hexadecimal digits that change with the data.

    Covers all labels, names and domains, and the pixels of `SAMPLED` evenly spaced images of each
    source: a change only in other images is not noticed.
    """
    found = hashlib.sha256()
    for source in sources:
        facts = (source.class_names, source.domain_names, source.image_shape, len(source))
        found.update(repr(facts).encode())
        for numbers in (source.labels, source.domains):
            found.update(b"" if numbers is None else numbers.astype("<i8").tobytes())
        for index in np.unique(np.linspace(0, len(source) - 1, SAMPLED).astype(int)):
            image = np.ascontiguousarray(source.images[index])
            found.update(repr(image.shape).encode() + image.tobytes())
    return found.hexdigest()[:16]
