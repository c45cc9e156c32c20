"""Reads an image of a source, at full size or at reduced size if fewer pixels suffice."""

import numpy as np

from magmax_jax.data.source import Images


def read(images: Images, index: int, least: int | None = None) -> np.ndarray:
    """images[index], possibly reduced, if a short side of `least` pixels suffices.

    Args:
      images: of a `Source`; those that can decode at reduced size have a method
        `read(index, least)`.
      least: as in `decode_rgb`; None reads the whole image.

    Returns:
      uint8 (height, width, 3).
    """
    if least is None or not hasattr(images, "read"):
        return images[index]
    return images.read(index, least)
