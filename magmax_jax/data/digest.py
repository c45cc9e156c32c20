"""A name for data that was passed from Python: the same data has the same one."""

import hashlib
from collections.abc import Iterable

import numpy as np

from magmax_jax.data.source import Source

SAMPLED = 64
"""Images of a split whose pixels count."""


def digest(sources: Iterable[Source]) -> str:
    """16 hexadecimal digits that change with the data.

    All labels, names and domains count, and the pixels of `SAMPLED` images of each source, evenly
    spaced: a change in other images alone is not noticed.
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
