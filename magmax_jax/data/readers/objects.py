"""Images that are Python objects: arrays, PIL images, paths, or a sequence that decodes them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from magmax_jax.data.readers.folder import ImageFiles, common_shape
from magmax_jax.data.source import Images, Shape, one_shape
from magmax_jax.errors import UserError
from magmax_jax.inputs.decode import decode_rgb


@dataclass(frozen=True)
class ImageObjects:
    """Images of any sequence, converted when indexed: images[i] is uint8 (height, width, 3)."""

    items: Sequence[Any]
    """Each a PIL image or a uint8 array."""
    where: str
    """Names the images in messages."""

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.read(index)

    def read(self, index: int, least: int | None = None) -> np.ndarray:
        """uint8 (height, width, 3), always at full size."""
        return rgb(self.items[int(index)], f"{self.where}: image {index}")


def as_images(images: Any, where: str) -> tuple[Images, Shape | None]:
    """Images in any form of `as_source`, and the (height, width) that all of them share.

    Arrays and lists are kept in memory; paths and other sequences are read on demand. To find out
    whether all images have one size, the latter are read once, up to the first of another size.

    Raises:
      UserError: they are not uint8 images; the message says how to convert them.
    """
    if is_array(images):
        pixels = rgb_pixels(np.asarray(images), where, dims=4)
        return pixels, pixels.shape[1:3]
    if isinstance(images, str) or not hasattr(images, "__len__"):
        raise UserError(
            f"{where}: its images are a {type(images).__name__}: pass an array (n, height, width, "
            "3), or a sequence of images with a length"
        )
    if isinstance(images, list | tuple):
        if images and all(isinstance(item, str | os.PathLike) for item in images):
            paths = [os.fspath(item) for item in images]
            return ImageFiles(tuple(paths)), common_shape(paths)
        images = [rgb(item, f"{where}: image {i}") for i, item in enumerate(images)]
        if len({image.shape for image in images}) == 1:
            pixels = np.stack(images)
            return pixels, pixels.shape[1:3]
    found = ImageObjects(images, where)
    return found, one_shape(found[i].shape[:2] for i in range(len(found)))


def is_array(value: Any) -> bool:
    """Whether this is a NumPy, JAX or PyTorch array."""
    return hasattr(value, "__dlpack__")


def rgb(item: Any, where: str) -> np.ndarray:
    """A PIL image or an array as uint8 (height, width, 3); `where` names it in messages.

    Raises:
      UserError: as `decode_rgb` and `rgb_pixels` do.
    """
    if isinstance(item, Image.Image):
        return decode_rgb(item, where)
    return rgb_pixels(np.asarray(item), where, dims=3)


def rgb_pixels(array: np.ndarray, where: str, dims: int) -> np.ndarray:
    """uint8 (..., height, width, 3), with grey repeated.

    Args:
      array: uint8 (..., height, width, 3), (..., height, width, 1) or (..., height, width).
      where: names the images in messages.
      dims: 3 for one image, 4 for a stack of them.

    Raises:
      UserError: the dtype or shape is different.
    """
    stack = "n, " if dims == 4 else ""
    if array.ndim == dims and array.shape[-1] not in (1, 3) and array.shape[-3] in (1, 3):
        axes = "0, 2, 3, 1" if dims == 4 else "1, 2, 0"
        raise UserError(
            f"{where}: shape {array.shape} has the channels first: transpose({axes}) makes it "
            f"({stack}height, width, {array.shape[-3]})"
        )
    if array.dtype != np.uint8:
        raise UserError(f"{where}: {_of_another_dtype(array)}")
    if array.ndim == dims - 1:
        array = array[..., None]
    if array.ndim != dims or not array.size or array.shape[-1] not in (1, 3):
        raise UserError(
            f"{where}: shape {array.shape} is not that of RGB or grey images: pass ({stack}height, "
            f"width, 3) or ({stack}height, width)"
        )
    return np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else array


def _of_another_dtype(array: np.ndarray) -> str:
    kind, found = array.dtype.kind, f"pixels are {array.dtype}, not uint8 in [0, 255]"
    if kind == "f" and array.size and array.min() < 0:
        return f"{found}: pass the images as they were before they were normalised"
    if kind == "f":
        scaled = "(255 * images)" if not array.size or array.max() <= 1 else "images"
        return f"{found}: convert them with {scaled}.round().astype('uint8')"
    if kind in "iu" and array.size and array.min() >= 0 and array.max() <= 255:
        return f"{found}: convert them with images.astype('uint8')"
    return f"{found}: convert them first"
