"""scikit-learn's handwritten digits in three styles (domains), which need no download."""

import numpy as np

from magmax_jax.data.data_set import DataSet
from magmax_jax.data.datasets import digits
from magmax_jax.data.source import Source, Split
from magmax_jax.inputs.prompts import NUMBERS
from magmax_jax.registry import DATA_SETS

STYLES = ("plain", "inverted", "coloured")

_INKS = np.array(
    [[255, 64, 64], [64, 255, 64], [64, 96, 255], [255, 224, 32], [255, 64, 255], [32, 224, 255]],
    np.uint16,
)
"""Colours of the coloured style, assigned to the images in rotation."""


def read(split: Split, data_dir: str | None = None) -> Source:
    """Every digit three times: plain, inverted, and in one of six colours."""
    grey, labels, names = digits.read_grey(split)
    ink = _INKS[np.arange(len(grey)) % len(_INKS)]
    coloured = grey[..., None].astype(np.uint16) * ink[:, None, None] // 255
    plain = np.repeat(grey[..., None], 3, axis=-1)
    return Source(
        images=np.concatenate([plain, 255 - plain, coloured.astype(np.uint8)]),
        labels=np.tile(labels, len(STYLES)),
        class_names=names,
        domains=np.repeat(np.arange(len(STYLES), dtype=np.int32), len(labels)),
        domain_names=STYLES,
        image_shape=(8, 8),
    )


DATA_SETS.register(
    "digits_styles",
    DataSet(
        name="digits_styles",
        read=read,
        classes=10,
        train_size=4_326,
        test_size=1_065,
        templates=NUMBERS,
    ),
)
