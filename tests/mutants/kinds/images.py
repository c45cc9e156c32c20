"""Images in the formats that folders of images and prepared data sets may hold."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from magmax_jax.inputs.decode import decode_rgb, open_image, seen_shape
from tests.mutants import mutate
from tests.mutants.kind import Kind

FORMATS = {
    "png": ("PNG", "RGB", {}),
    "jpeg": ("JPEG", "L", {}),
    "webp": ("WEBP", "RGB", {"lossless": True}),
    "gif": ("GIF", "L", {}),
    "bmp": ("BMP", "RGB", {}),
    "tiff": ("TIFF", "RGB", {}),
    "tiff, deflated": ("TIFF", "RGB", {"compression": "tiff_deflate"}),
    "tiff, jpeg": ("TIFF", "RGB", {"compression": "jpeg"}),
    "ppm": ("PPM", "RGB", {}),
    "jpeg 2000": ("JPEG2000", "RGB", {}),
    "avif": ("AVIF", "RGB", {}),
    "tga": ("TGA", "RGBA", {"compression": "tga_rle"}),
    "pcx": ("PCX", "RGB", {}),
    "sgi": ("SGI", "RGB", {}),
    "dds": ("DDS", "RGBA", {}),
    "ico": ("ICO", "RGBA", {"sizes": [(24, 24)]}),
    "qoi": ("QOI", "RGB", {}),
}
"""Name -> Pillow's format, the image's mode, and options for saving it."""
HEADER = 64


def _image(format_: str, mode: str, options: dict) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (24, 31, len(mode)), np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by 90 degrees
        turned = {"exif": exif} if format_ in ("PNG", "JPEG", "WEBP", "TIFF") else {}
        Image.fromarray(pixels.squeeze()).save(folder / "image", format_, **options, **turned)

    return make


def _decoded(folder: Path) -> tuple[tuple[int, int], np.ndarray]:
    with open_image(folder / "image", "the image") as opened:
        shape = seen_shape(opened)
        return shape, decode_rgb(opened, "the image")


def _as_announced(folder: Path, found: tuple[tuple[int, int], np.ndarray]) -> bool:
    """Whether the header's shape is that of the pixels, as readers that allocate ahead assume."""
    shape, pixels = found
    return pixels.shape == (*shape, 3) and pixels.dtype == np.uint8


ROOM = 4 * 2 * Image.MAX_IMAGE_PIXELS
"""Bytes of the largest image that Pillow opens: headers may announce it, whatever follows."""


def _mutated(data: bytes, draw: random.Random) -> bytes:
    """Half of the mutants have changes in the header only."""
    if draw.random() < 0.5:
        return mutate.of_bytes(data, draw)
    return mutate.of_bytes(data[:HEADER], draw) + data[HEADER:]


KINDS = {
    name: Kind("image", _image(*how), _decoded, _mutated, _as_announced, room=ROOM)
    for name, how in FORMATS.items()
}
