"""Converts users' images (files, PIL images, arrays) to RGB bytes."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from magmax_jax.errors import UserError
from magmax_jax.inputs.decode import decode_rgb, open_image, printable


def rgb_batch(images: Any) -> np.ndarray | None:
    """uint8 (b, h, w, 3) if `images` is such an array, None if it is not an array with four axes.

    Raises:
      UserError: the array has another dtype or shape.
    """
    if isinstance(images, Image.Image) or not hasattr(images, "__array__") or np.ndim(images) != 4:
        return None
    return _pixels(images, "images")


def rgb_images(images: Any) -> Iterator[np.ndarray]:
    """Yields one image or many, each as uint8 (h, w, 3).

    Args:
      images: a PIL image of any mode, the path of an image file, a uint8 array (h, w, 3) or grey
        (h, w), an iterable of these, or a uint8 array (b, h, w, 3). As in an image folder, photos
        are turned upright by their EXIF and transparency becomes white (see `decode_rgb`).

    Raises:
      UserError: an image is missing, damaged, not an image, or an array of another dtype or shape.
    """
    one = isinstance(images, Image.Image | str | Path)
    if one or (hasattr(images, "__array__") and np.ndim(images) < 4):
        yield _rgb(images, "the image")
    elif (batch := rgb_batch(images)) is not None:
        yield from batch
    elif isinstance(images, Iterable):
        for i, image in enumerate(images):
            yield _rgb(image, f"image {i}")
    else:
        raise UserError(_no_image("images", images))


def channels_first(shape: tuple[int, ...]) -> str:
    """What to do about channels-first pixels; "" if they are not channels-first.

    Args:
      shape: of one image or a batch.
    """
    if len(shape) not in (3, 4) or shape[-3] != 3 or shape[-1] == 3:
        return ""
    axes, wanted = ("0, 2, 3, 1", "(b, h, w, 3)") if len(shape) == 4 else ("1, 2, 0", "(h, w, 3)")
    return (
        f"pixels have shape {tuple(shape)}, channels first: "
        f"transpose to {wanted} with .transpose({axes})"
    )


def _rgb(image: Any, where: str) -> np.ndarray:
    if isinstance(image, Image.Image):
        return decode_rgb(image, where)
    if isinstance(image, str | Path):
        return _file(image)
    if not hasattr(image, "__array__"):
        raise UserError(_no_image(where, image))
    if np.ndim(image) == 4:
        raise UserError(f"{where}: pixels have shape {np.shape(image)}: give one image each")
    pixels = _pixels(image, where)
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def _pixels(array: Any, where: str) -> np.ndarray:
    """uint8 (h, w), (h, w, 3) or (b, h, w, 3)."""
    pixels = np.asarray(array)
    if mistake := channels_first(pixels.shape):
        raise UserError(f"{where}: {mistake}")
    colours = pixels.ndim in (3, 4) and pixels.shape[-1] == 3
    if not (colours or pixels.ndim == 2) or 0 in pixels.shape[-3:]:
        raise UserError(
            f"{where}: pixels have shape {pixels.shape}: give (h, w, 3) or grey (h, w), a list of "
            "these, or a batch (b, h, w, 3)"
        )
    if pixels.dtype != np.uint8:
        raise UserError(
            f"{where}: pixels are {pixels.dtype}: give uint8 in [0, 255]; for values in [0, 1] "
            'that is (255 * pixels).round().astype("uint8")'
        )
    return pixels


def _file(path: str | Path) -> np.ndarray:
    with open_image(path, where := printable(path)) as image:
        return decode_rgb(image, where)


def _no_image(where: str, given: Any) -> str:
    return (
        f"{where}: {type(given).__name__} is not an image: give PIL images, paths of image files "
        "or uint8 arrays (h, w, 3)"
    )
