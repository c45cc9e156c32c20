"""TFDS internals that we use still exist and are used by TFDS itself."""

import importlib
import inspect
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader

from magmax_jax.data import tfds_internals

USED = (
    ("core.download.checksums", "compute_url_info"),
    ("core.download.download_manager", "NonMatchingChecksumError"),
    ("core.download.downloader", "MAX_RETRIES"),
    ("core.download.downloader", "get_downloader"),
    ("core.download.extractor", "ExtractError"),
    ("core", "DatasetInfo.initialize_from_bucket"),
    ("core", "DatasetBuilder.MAX_SIMULTANEOUS_DOWNLOADS"),
    ("core", "DatasetBuilder.url_infos"),
)


@pytest.mark.parametrize(("module", "names"), USED, ids=lambda part: part)
def test_tfds_still_has_it(module, names):
    owner = importlib.import_module(f"tensorflow_datasets.{module}")
    for name in names.split("."):
        owner = inspect.getattr_static(owner, name, "gone")
        assert owner != "gone", (
            f"TFDS {tfds.__version__} has no {module}.{names} any more: see "
            "magmax_jax/data/tfds_internals.py"
        )


@pytest.mark.parametrize("name", ["_executor", "increase_tqdm"])
def test_tfds_downloader_still_has_it(name):
    assert hasattr(downloader.get_downloader(max_simultaneous_downloads=None), name), (
        f"TFDS {tfds.__version__}'s downloader has no {name} any more: see "
        "magmax_jax/data/tfds_internals.py"
    )


def test_managers_share_the_downloader_that_we_patch():
    shared = downloader.get_downloader(max_simultaneous_downloads=None)
    assert shared is downloader.get_downloader(max_simultaneous_downloads=None)
    assert isinstance(shared._executor, ThreadPoolExecutor)


def test_a_failure_waits_for_running_downloads_and_leaves_the_downloader_usable():
    builder = tfds.builder("mnist")
    shared = downloader.get_downloader(max_simultaneous_downloads=None)
    before, retries, begun, done = shared._executor, downloader.MAX_RETRIES, threading.Event(), []

    def download():
        begun.set()
        time.sleep(0.2)
        done.append("whole")

    with pytest.raises(OSError, match="404"), tfds_internals.downloading(builder):
        assert downloader.MAX_RETRIES == tfds_internals.RETRIES
        shared._executor.submit(download)
        begun.wait(10)
        raise OSError("404")
    assert done == ["whole"]
    assert shared._executor is before and retries == downloader.MAX_RETRIES
    assert shared._executor.submit(int, "7").result() == 7


def test_own_files_are_registered_only_temporarily(tmp_path):
    class TfdssOwn:
        url_infos = {"https://there/known.gz": None}  # noqa: RUF012

    class Inherits(TfdssOwn):
        pass

    class WithoutChecksums(TfdssOwn):
        url_infos = None

    url = "https://there/archive.gz"
    (tmp_path / "archive.gz").write_bytes(b"abc")
    for builder in (TfdssOwn(), Inherits(), WithoutChecksums()):
        before = builder.url_infos
        with tfds_internals.trusting(builder, {url: tmp_path / "archive.gz"}):
            info = builder.url_infos[url]
            assert (info.filename, int(info.size)) == ("archive.gz", 3)
            assert info.checksum.startswith("ba7816bf")  # hash of "abc" in NIST's examples
            assert set(builder.url_infos) == {url, *(before or ())}
        assert builder.url_infos == before
