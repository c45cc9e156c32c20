"""Which files of a folder are images, by their suffix: whatever Pillow opens as a picture."""

import functools
from pathlib import PurePath

from PIL import Image

NO_PICTURES = frozenset(
    {
        "BUFR", "GRIB", "HDF5", "WMF",  # Pillow knows their headers alone
        "EPS",  # is a program, which Ghostscript would run
        "FITS",  # holds measurements, and no range for them
        "IPTC",  # holds captions
        "MPEG",  # holds videos, of which Pillow decodes nothing
    }
)  # fmt: skip
"""Formats of Pillow's whose files are passed over."""


@functools.cache
def image_suffixes() -> frozenset[str]:
    """Lower-case suffixes with their dot; those of plug-ins too, if they were registered before."""
    Image.init()
    pictures = {*Image.OPEN, "MPO"} - NO_PICTURES  # MPO is opened by the reader of JPEG
    known = Image.registered_extensions().items()
    return frozenset(suffix for suffix, kind in known if kind in pictures)


def is_image(name: str) -> bool:
    """Whether a file is an image by its name; hidden ones are not."""
    return not name.startswith(".") and PurePath(name).suffix.lower() in image_suffixes()
