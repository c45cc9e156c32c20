"""Bringing images of mixed sizes to one, on the host: the device wants one shape."""

import math

import numpy as np
from PIL import Image

SPARE = 1.25
"""Training images keep this much more than the size they are cropped and resized to."""
LONGEST = 1.5
"""Longest side of a training image, in short sides; the rest is trimmed centrally."""

Box = tuple[int, int, int, int]


def centre_square(image: np.ndarray, size: int) -> tuple[np.ndarray, Box]:
    """Resizes the short side to `size` (bicubic) and crops the centre, as CLIPImageProcessor does.

    Args:
      image: uint8 (h, w, 3).

    Returns:
      uint8 (size, size, 3) and the box of all of it.
    """
    resized = _resize_short_side(image, size)
    height, width, _ = resized.shape
    top, left = (height - size) // 2, (width - size) // 2
    return resized[top : top + size, left : left + size], (0, 0, size, size)


def shrink(image: np.ndarray, size: int) -> tuple[np.ndarray, Box]:
    """Fits an image onto a square canvas that has room for random crops; never enlarges.

    The short side becomes at most ceil(1.25 size), so that a crop still has about `size` pixels;
    the long side is trimmed centrally to 1.5 short sides.

    Args:
      image: uint8 (h, w, 3).

    Returns:
      uint8 (c, c, 3), c = floor(1.5 ceil(1.25 size)), and the valid region's box
      [top, left, height, width].
    """
    short = math.ceil(SPARE * size)
    if min(image.shape[:2]) > short:
        image = _resize_short_side(image, short)
    longest = int(LONGEST * min(image.shape[:2]))
    height, width = (min(side, longest) for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    canvas = np.zeros((int(LONGEST * short), int(LONGEST * short), 3), np.uint8)
    canvas[:height, :width] = image[top : top + height, left : left + width]
    return canvas, (0, 0, height, width)


def _resize_short_side(image: np.ndarray, size: int) -> np.ndarray:
    height, width, _ = image.shape
    short = min(height, width)
    shape = (size * width // short, size * height // short)
    return np.asarray(Image.fromarray(image).resize(shape, Image.Resampling.BICUBIC))
