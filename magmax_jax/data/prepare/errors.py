"""One message for each thing that can go wrong while a data set is prepared."""

import errno
import re
import urllib.error
import urllib.parse
from pathlib import Path

import requests
import tensorflow_datasets as tfds

from magmax_jax.data import tfds_internals
from magmax_jax.data.prepare import archives, fingerprint
from magmax_jax.errors import UserError, first_line

INSTALL = "pip install -r requirements-prepare.txt"
"""What to do if TensorFlow, or a package that TFDS prepares with, is missing."""


_NATIVE_WRITE = re.compile(r"\b\w+\(\) failed: ([^;]+); writing ")
"""A RuntimeError of array_record, whose native code writes the prepared files."""


def as_user_error(
    error: Exception, builder: tfds.core.DatasetBuilder, folder: Path
) -> UserError | None:
    """The message for errors that are not bugs; None for all others."""
    name = fingerprint.title(builder)
    reason = first_line(error)
    if isinstance(error, UserError):
        return error
    if isinstance(
        error, (tfds.download.DownloadError, requests.RequestException, urllib.error.URLError)
    ):
        if isinstance(error, requests.ConnectionError) and error.request is not None:
            host = urllib.parse.urlsplit(str(error.request.url)).hostname
            reason = f"no connection to {host}"
        how = archives.how_to_fetch(builder, folder)
        return UserError(f"{name} cannot be downloaded ({reason}): {how}")
    if isinstance(error, tfds_internals.ChecksumError):
        return UserError(
            f"{name}: {reason.rstrip(':')}: {archives.how_to_fetch(builder, folder)}; with "
            "repacked, an archive that you packed yourself is accepted"
        )
    if isinstance(error, ImportError):
        return UserError(f"{name} needs further packages to be prepared ({reason}): {INSTALL}")
    strerror = ""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        strerror = error.strerror or str(error)
    elif native := _NATIVE_WRITE.search(str(error)):
        strerror = native[1]
    if strerror:
        return UserError(f"{name}: {strerror} in {builder.data_dir_root}: pass another data_dir")
    if archives.damaged(error):
        return UserError(
            f"{name}: an archive is damaged or not the publishers' ({reason}): remove it and fetch "
            f"it again; it is in {folder} or in {builder.data_dir_root}/downloads/{builder.name}"
        )
    # Raised for archives with an unexpected layout by TFDS's reader, TensorFlow's or its own.
    layout = (tfds_internals.ExtractError, FileNotFoundError, AssertionError)
    if isinstance(error, layout) or type(error).__module__.startswith("tensorflow."):
        return UserError(
            f"{name}: the archives do not contain what they should ({reason}); "
            f"{archives.how_to_fetch(builder, folder)}"
        )
    return None
