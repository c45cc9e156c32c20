"""Recognises a folder's images by their suffix: everything that Pillow opens as a picture."""

import functools
import os

from PIL import Image

from magmax_jax.inputs.picture_formats import picture_formats


@functools.cache
def image_suffixes() -> frozenset[str]:
    """Lower-case suffixes with their dot, including those of already registered plug-ins."""
    pictures = {*picture_formats(), "MPO"}  # the JPEG reader opens MPO
    known = Image.registered_extensions().items()
    return frozenset(suffix for suffix, kind in known if kind in pictures)


def is_image(name: str) -> bool:
    """Whether a file's name is an image's; hidden files are not images."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in image_suffixes()
