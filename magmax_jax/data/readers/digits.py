"""scikit-learn's handwritten digits, plain or in three styles: they need no download."""

import numpy as np

from magmax_jax.data.source import Source, Split, hold_out

STYLES = ("plain", "inverted", "coloured")

_INKS = np.array(
    [[255, 64, 64], [64, 255, 64], [64, 96, 255], [255, 224, 32], [255, 64, 255], [32, 224, 255]],
    np.uint16,
)
"""Colours of the coloured style, taken by one digit after another."""


def load_digits(split: Split) -> Source:
    """1797 images of 8x8 pixels, grey repeated to RGB; divided by `hold_out`."""
    grey, labels, names = _read(split)
    images = np.repeat(grey[..., None], 3, axis=-1)
    return Source(images=images, labels=labels, class_names=names, image_shape=(8, 8))


def load_styles(split: Split) -> Source:
    """The same digits three times, a domain each: plain, inverted, and in one of six colours."""
    grey, labels, names = _read(split)
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


def _read(split: Split) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """uint8 (n, 8, 8), int32 (n,) and the classes' names."""
    from sklearn import datasets  # slow to start

    digits = datasets.load_digits()
    chosen = hold_out(digits.target, split)
    grey = np.round(digits.images[chosen] * (255 / 16)).astype(np.uint8)
    return grey, digits.target[chosen].astype(np.int32), tuple(map(str, digits.target_names))
