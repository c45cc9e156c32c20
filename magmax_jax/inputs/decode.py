"""Decodes images into pixels as displayed; JPEGs at reduced size if fewer pixels suffice."""

import os
import struct
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

from magmax_jax.errors import UserError
from magmax_jax.inputs.picture_formats import picture_formats

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the operation that turns pixels upright; from 5 on it swaps rows and columns.

`ImageOps.exif_transpose` does the same, but fails if it cannot write the remaining EXIF back.
"""


def open_image(file: str | Path | IO[bytes], where: str) -> Image.Image:
    """Opens an image and reads only its header.

    Args:
      where: names the image in the error.

    Raises:
      UserError: it is missing, unreadable, not an image, or larger than Pillow's pixel limit.
    """
    try:
        return Image.open(file, formats=picture_formats())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(where, error) from None
    except Image.UnidentifiedImageError:
        reason = "not an image format that Pillow knows"
    except OSError as error:
        reason = error.strerror or str(error)
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises many kinds of errors for damaged headers
        reason = str(error) or type(error).__name__
    raise UserError(f"{where}: not a readable image ({reason}); replace or remove it")


def decode_rgb(image: Image.Image, where: str, least: int | None = None) -> np.ndarray:
    """An opened image's pixels as displayed: upright, with transparency on white.

    An orientation in EXIF or XMP is applied, like in transformers' `load_image`; torchvision's
    ImageFolder and plain `Image.open(...).convert("RGB")` leave such photos sideways. Transparency
    (an alpha channel, or a transparent colour) is composited onto white, like in the image
    processors of transformers 5; dropping it, as OpenAI's code and `convert("RGB")` do, exposes
    whatever colour is hidden there, often black. EXIF that cannot be parsed is ignored.

    Args:
      where: names the image in the error.
      least: a sufficient short side in pixels. A JPEG is then decoded at 1/2, 1/4 or 1/8 of its
        size, the smallest whose short side still suffices; other formats are decoded in full.

    Returns:
      uint8 (height, width, 3).

    Raises:
      UserError: the image is damaged or too large, or has 32-bit pixels, whose range is unknown.
    """
    if image.mode in ("I", "F"):
        raise UserError(f"{where}: 32-bit pixels (mode {image.mode}): save it with 8 bits")
    try:
        if least is not None:
            image.draft(None, (least, least))  # keep the mode: convert() handles all of them
        image.load()
        if (turn := TURNS.get(_orientation(image))) is not None:
            image = image.transpose(turn)
        if image.mode.startswith("I;16"):  # convert() would clip values above 255
            return _grey_of_16_bits(image)
        return np.asarray(_on_white(image) if image.has_transparency_data else image.convert("RGB"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(where, error) from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises many kinds of errors for damaged data
        reason = str(error) or type(error).__name__
        raise UserError(f"{where}: the image is damaged ({reason}); replace or remove it") from None


def seen_shape(image: Image.Image) -> tuple[int, int]:
    """(height, width) of `decode_rgb`'s result for an opened image.

    Reads only the header, except for a PNG whose EXIF or XMP comes after its pixels.
    """
    shape = image.height, image.width
    if shape[0] == shape[1]:
        return shape
    if ExifTags.Base.Orientation in getattr(image, "tag_v2", ()):
        return shape  # Pillow reports such a TIFF's size as displayed
    if isinstance(image, PngImagePlugin.PngImageFile) and _has_late_metadata(image):
        image.load()
    return shape[::-1] if _orientation(image) in (5, 6, 7, 8) else shape


def printable(path: str | Path) -> str:
    """A path in printable form: bytes that are not UTF-8 become \\xNN."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _orientation(image: Image.Image) -> int:
    """The orientation in EXIF or XMP, 1 to 8, as far as the file has been read."""
    try:
        # The base class's method, because PNG's decodes the whole image.
        return Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF raises many kinds of errors; the pixels may be fine
        return 1


def _has_late_metadata(image: PngImagePlugin.PngImageFile) -> bool:
    """Whether EXIF or XMP comes after the pixels; skips over chunks without reading them."""
    file = image.fp
    assert file is not None
    before, at, late = file.tell(), 8, False
    try:
        while len(head := _at(file, at, 8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if late and kind == b"eXIf":
                return True
            if late and kind in (b"iTXt", b"tEXt", b"zTXt"):
                keyword = file.read(21)
                if keyword.startswith((b"XML:com.adobe.xmp", b"Raw profile type exif")):
                    return True
            late = late or kind == b"IDAT"
            at += length + 12
        return False
    finally:
        file.seek(before)


def _at(file: IO[bytes], position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)


def _grey_of_16_bits(image: Image.Image) -> np.ndarray:
    """uint8 (height, width, 3)."""
    values = np.asarray(image)
    grey = (values // 257).astype(np.uint8)
    if "transparency" in image.info:  # the value of transparent pixels
        grey[values == image.info["transparency"]] = 255
    return np.repeat(grey[..., None], 3, axis=2)


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _too_large(where: str, error: Exception) -> UserError:
    found = str(error).partition(",")[0]  # "Image size (N pixels) exceeds limit of M pixels"
    return UserError(
        f"{where}: {found}, which Pillow treats as a possible attack; make the image smaller or "
        "remove it (your own script may set PIL.Image.MAX_IMAGE_PIXELS)"
    )
