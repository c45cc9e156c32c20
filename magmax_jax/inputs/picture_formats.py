"""The formats that are opened as pictures, whatever a file is called."""

import functools

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
"""Pillow's formats that are never opened, whatever a file is called."""


@functools.cache
def picture_formats() -> tuple[str, ...]:
    """Pillow's names of the others, including those of already registered plug-ins; the most
    common ones first, since Pillow tries them in this order."""
    Image.preinit()
    common = list(Image.OPEN)
    Image.init()
    return tuple(kind for kind in dict.fromkeys([*common, *Image.OPEN]) if kind not in NO_PICTURES)
