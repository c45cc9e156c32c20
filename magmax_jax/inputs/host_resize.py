"""Resizes images of mixed sizes to one size, on the host: the device needs one shape.

Images of one size are passed on unchanged, for the device to resize, unless they are so large that
resizing first saves transfer.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeGuard

import numpy as np
from PIL import Image

from magmax_jax.inputs.geometry import CLIPS, Geometry

SPARE = 1.25
"""Training images keep this multiple of the size that they are cropped and resized to."""
LONGEST = 1.5
"""Longest side of a training image, in short sides; the rest is cropped centrally."""
FINER = 2
"""Training images are decoded to at least this many times the short side that they are shrunk to.

With 2, the mean difference from the full decode is 0.2 to 0.8 of 255 (2000 x 1500, for 224 px);
with 1, it is 0.5 to 2.8, and edges visibly suffer.
"""

Box = tuple[int, int, int, int]


class Fit(NamedTuple):
    """How images are resized to one size on the host.

    Attributes:
      apply: uint8 (h, w, 3) -> uint8 (side, side, 3) and the valid region's box.
      side: of every result, in pixels.
      least: a sufficient short side to decode, in pixels; None: every pixel is needed.
    """

    apply: Callable[[np.ndarray], tuple[np.ndarray, Box]]
    side: int
    least: int | None


def for_training(
    shape: tuple[int, int] | None, size: int, geometry: Geometry = CLIPS
) -> Fit | None:
    """`shrink`, from JPEGs decoded at reduced size if that suffices; None if `untouched`."""
    if untouched(shape, size):
        return None
    apply = partial(shrink, size=size, geometry=geometry)
    return Fit(apply, _canvas(size), FINER * _short(size))


def for_evaluation(
    shape: tuple[int, int] | None, size: int, geometry: Geometry = CLIPS
) -> Fit | None:
    """`centre_square` from every pixel, as in image processors; None if `untouched`.

    A reduced decode differs by up to 4 of 255 on average in the worst JPEG tried: that may change a
    prediction, and accuracies are compared with others'.
    """
    if untouched(shape, size):
        return None
    return Fit(partial(centre_square, size=size, geometry=geometry), size, None)


def untouched(shape: tuple[int, int] | None, size: int) -> TypeGuard[tuple[int, int]]:
    """Whether images go to the device unchanged: they have one size, and their short side is no
    longer than the canvas of `shrink`.

    Args:
      shape: (height, width) of all images, None if they differ.
    """
    return shape is not None and min(shape) <= _canvas(size)


def _short(size: int) -> int:
    return math.ceil(SPARE * size)


def _canvas(size: int) -> int:
    return int(LONGEST * _short(size))


def centre_square(
    image: np.ndarray, size: int, geometry: Geometry = CLIPS
) -> tuple[np.ndarray, Box]:
    """The square for evaluation, by default as in CLIPImageProcessor.

    Args:
      image: uint8 (h, w, 3).

    Returns:
      uint8 (size, size, 3) and the box with which the device shows it unchanged: all of it, or, if
      the device would resize that again, the position of the whole resized image on the square.
    """
    height, width, _ = image.shape
    rows, columns = geometry.placed(size, height, width, min)
    resized = _resize(image, rows.length, columns.length, geometry)
    square = Image.new("RGB", (size, size), (geometry.fill,) * 3)
    square.paste(resized, (-columns.start, -rows.start))
    stays = all(axis == (size, 0) for axis in geometry.placed(size, size, size, min))
    placed = (-rows.start, -columns.start, rows.length, columns.length)
    return np.asarray(square), (0, 0, size, size) if stays else placed


def shrink(image: np.ndarray, size: int, geometry: Geometry = CLIPS) -> tuple[np.ndarray, Box]:
    """Fits an image onto a square canvas that has room for random crops; never enlarges.

    The short side becomes at most ceil(1.25 size), so that a crop still has about `size` pixels;
    the long side is cropped centrally to 1.5 short sides, or, if evaluation sees the whole image,
    resized to at most the canvas.

    Args:
      image: uint8 (h, w, 3).

    Returns:
      uint8 (c, c, 3), c = floor(1.5 ceil(1.25 size)), and the valid region's box
      [top, left, height, width].
    """
    short, side = _short(size), _canvas(size)
    least, most = sorted(image.shape[:2])
    shows_all = geometry.resize.shows_all
    if shows_all:
        short = max(1, min(short, side * least // most))
    if least > short:
        height, width = (short * length // least for length in image.shape[:2])
        image = np.asarray(_resize(image, height, width, geometry))
    longest = side if shows_all else int(LONGEST * min(image.shape[:2]))
    height, width = (min(side, longest) for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    canvas = np.zeros((side, side, 3), np.uint8)
    canvas[:height, :width] = image[top : top + height, left : left + width]
    return canvas, (0, 0, height, width)


def _resize(image: np.ndarray, height: int, width: int, geometry: Geometry) -> Image.Image:
    return Image.fromarray(image).resize((width, height), Image.Resampling(geometry.resample))
