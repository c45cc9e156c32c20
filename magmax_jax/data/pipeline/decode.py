"""An image of a source, whole or at a fraction where fewer pixels are wanted."""

import numpy as np

from magmax_jax.data.source import Images


def read(images: Images, index: int, least: int | None = None) -> np.ndarray:
    """images[index], or less of it where `least` pixels of short side are enough.

    Args:
      images: of a `Source`; those that can decode less have a method `read(index, least)`.
      least: as in `decode_rgb`; None reads the whole image.

    Returns:
      uint8 (height, width, 3).
    """
    if least is None or not hasattr(images, "read"):
        return images[index]
    return images.read(index, least)
