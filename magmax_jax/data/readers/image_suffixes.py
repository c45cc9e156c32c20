"""Recognises a folder's images by their suffix: everything that Pillow opens as a picture."""

import functools
from pathlib import PurePath

from PIL import Image

NO_PICTURES = frozenset(
    {
        "BUFR", "GRIB", "HDF5", "WMF",  # Pillow reads only their headers
        "EPS",  # a program, which Ghostscript would run
        "FITS",  # measurements without a known range
        "IPTC",  # captions
        "MPEG",  # videos, which Pillow does not decode
    }
)  # fmt: skip
"""Pillow's formats whose files are skipped."""


@functools.cache
def image_suffixes() -> frozenset[str]:
    """Lower-case suffixes with their dot, including those of already registered plug-ins."""
    Image.init()
    pictures = {*Image.OPEN, "MPO"} - NO_PICTURES  # the JPEG reader opens MPO
    known = Image.registered_extensions().items()
    return frozenset(suffix for suffix, kind in known if kind in pictures)


def is_image(name: str) -> bool:
    """Whether a file's name is an image's; hidden files are not images."""
    return not name.startswith(".") and PurePath(name).suffix.lower() in image_suffixes()
