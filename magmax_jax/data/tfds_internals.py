"""All private parts of TFDS (4.9.10) that we use, in one place.

tests/data/test_tfds_internals.py shows which of them a new TFDS release has removed.
"""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import (
    checksums,
    download_manager,
    downloader,
    extractor,
    resource,
)

ChecksumError = download_manager.NonMatchingChecksumError
"""An archive's checksum differs from TFDS's; `tfds.download` does not export this error."""

ExtractError = extractor.ExtractError
"""An archive cannot be unpacked; also not exported."""

ExtractMethod = resource.ExtractMethod
"""Kinds of archives."""

extract_method = resource.guess_extract_method
"""The kind of an archive, by its file name."""

RETRIES = 4
"""With TFDS's own number it takes many minutes to notice that there is no network."""

SIMULTANEOUS = 50
"""Concurrent downloads, as in TFDS."""


@contextlib.contextmanager
def without_bucket() -> Iterator[None]:
    """Keeps TFDS from querying a bucket about a data set that is not prepared.

    TFDS no longer queries it, but leaves an empty folder in the temporary directory each time.
    """
    info = tfds.core.DatasetInfo
    asking, info.initialize_from_bucket = info.initialize_from_bucket, lambda self: None
    try:
        yield
    finally:
        info.initialize_from_bucket = asking


@contextlib.contextmanager
def downloading(builder: tfds.core.DatasetBuilder) -> Iterator[None]:
    """Lets a builder download with fewer retries, and stops early on an error.

    TFDS shares one downloader among builders. If one archive fails, others are still downloading:
    this waits for those that have begun, cancels the rest and leaves the downloader usable.
    """
    shared = downloader.get_downloader(
        max_simultaneous_downloads=builder.MAX_SIMULTANEOUS_DOWNLOADS
    )
    before = downloader.MAX_RETRIES, shared._executor, shared.increase_tqdm
    own = ThreadPoolExecutor(builder.MAX_SIMULTANEOUS_DOWNLOADS or SIMULTANEOUS)
    downloader.MAX_RETRIES, shared._executor = RETRIES, own
    # For existing archives it would add bytes to a bar that counts MiB.
    shared.increase_tqdm = lambda url_info: None
    try:
        yield
    except Exception:
        own.shutdown(cancel_futures=True)
        raise
    finally:
        own.shutdown(wait=False)  # after Ctrl-C, do not wait
        downloader.MAX_RETRIES, shared._executor, shared.increase_tqdm = before


@contextlib.contextmanager
def trusting(builder: tfds.core.DatasetBuilder, files: dict[str, Path]) -> Iterator[None]:
    """Makes TFDS use the user's own files from its manual folder.

    TFDS does so if a file has the registered name and checksum; here the file's own are registered.

    Args:
      files: address -> the file that replaces it.
    """
    cls: Any = type(builder)
    own = {name: value for name, value in vars(cls).items() if name == "url_infos"}
    infos = {url: checksums.compute_url_info(file) for url, file in files.items()}
    cls.url_infos = dict(builder.url_infos or {}) | infos
    try:
        yield
    finally:
        del cls.url_infos
        for name, value in own.items():
            setattr(cls, name, value)
