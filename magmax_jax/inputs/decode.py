"""Encoded images to pixels: all of them, or a JPEG's at a fraction where fewer are wanted."""

import numpy as np
from PIL import Image

from magmax_jax.errors import UserError


def decode_rgb(image: Image.Image, where: str, least: int | None = None) -> np.ndarray:
    """An opened image's pixels, as stored: a rotation in EXIF is not applied.

    Args:
      where: names the image in the error.
      least: a short side in pixels that is enough. A JPEG is then decoded at 1/2, 1/4 or 1/8 of its
        size, the smallest whose short side is not below; other formats know nothing of the kind.

    Returns:
      uint8 (height, width, 3).

    Raises:
      UserError: the image is damaged, or has pixels of 32 bits, whose range is unknown.
    """
    if image.mode in ("I", "F"):
        raise UserError(f"{where}: 32-bit pixels (mode {image.mode}): save it with 8 bits")
    try:
        if image.mode.startswith("I;16"):  # convert() would clip all above 255
            grey = (np.asarray(image) // 257).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
        if least is not None:
            image.draft(None, (least, least))  # the mode stays: convert() knows them all
        return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{where}: the image is damaged ({error}); replace or remove it") from None
