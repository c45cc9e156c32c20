"""Every data set of the catalogue, prepared by its builder from archives in the original layout."""

import gzip
import importlib.util
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from tensorflow_datasets.core.download import downloader
from tensorflow_datasets.core.download.util import DownloadError
from tensorflow_datasets.datasets.imagenet2012 import imagenet_common
from tensorflow_datasets.image_classification import mnist

from magmax_jax.cli import prepare
from magmax_jax.data import load_source
from magmax_jax.errors import exit_code
from tests.data import archives, packing
from tests.data.rows import ROWS

WITH_TENSORFLOW = all(
    importlib.util.find_spec(module)
    for module in ("tensorflow", "importlib_resources", "cv2", "scipy", "h5py")
)
needs_tensorflow = pytest.mark.skipif(
    not WITH_TENSORFLOW, reason="preparing it needs requirements-prepare.txt"
)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a data set's archives and patches every table to match them."""
    for variable in ("CUDA_VISIBLE_DEVICES", "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"):
        monkeypatch.setenv(variable, "")  # the launcher sets them; restored afterwards
    train, test = (packing.CLASSES * number for number in (packing.TRAIN, packing.TEST))
    monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", train)
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", test)
    monkeypatch.setattr(mnist.EMNIST.builder_configs["digits"], "train_examples", train)
    monkeypatch.setattr(mnist.EMNIST.builder_configs["digits"], "test_examples", test)
    labels = tmp_path / "archives" / "imagenet" / "labels.txt"
    monkeypatch.setattr(imagenet_common, "_VALIDATION_LABELS_FNAME", str(labels))
    return lambda name: archives.small(name, tmp_path / "archives" / name, monkeypatch)


def run(tmp_path, name, *options) -> int:
    folders = ["--data-dir", str(tmp_path / "data"), "--manual-dir", str(tmp_path / "archives")]
    try:
        return exit_code(lambda: prepare.main([name, *folders, *options]))
    except SystemExit as ending:
        return ending.code


def assert_colours_are_those_of_the_labels(source):
    assert len(source) > 0
    for image, label in zip(source.images, source.labels, strict=True):
        colour = image.reshape(-1, 3).mean(0)
        grey = np.ptp(colour) < 1
        expected = packing.GREYS[label] if grey else packing.COLOURS[label]
        np.testing.assert_allclose(colour, expected, atol=6)  # JPEG's loss


@pytest.mark.parametrize(
    "name",
    [n if n == "gtsrb" else pytest.param(n, marks=needs_tensorflow) for n in archives.LAYOUTS],
)
def test_prepares_from_original_archives(name, write, tmp_path, monkeypatch, capfd):
    splits = write(name)
    assert run(tmp_path, name, "--repacked") == 0, capfd.readouterr().err
    shown = capfd.readouterr()
    for split, images in splits.items():
        assert f"{split} {images}" in shown.out or name == "dtd"
    assert "recorded in magmax.json" in shown.out and shown.err == ""
    recorded = ROWS[name]
    archives.readable(name, monkeypatch)
    data = ROWS[name]
    sources = [
        load_source(name, split, str(tmp_path / "data"))
        for split in ("train",) + ("test",) * (data.tfds.split is None and name != "imagenet")
    ]
    for source in sources:
        assert_colours_are_those_of_the_labels(source)
    left = [*(tmp_path / "data").rglob("*incomplete*"), *(tmp_path / "data").rglob("extracted")]
    assert not [path for path in left if path.is_file() or any(path.iterdir())]

    monkeypatch.setitem(ROWS, name, recorded)
    assert run(tmp_path, name) == 0
    again = capfd.readouterr().out
    assert "as recorded" in again and "preparing" not in again


@needs_tensorflow
class TestMistakes:
    """Archive errors; none of them leaves a file behind."""

    @pytest.fixture(autouse=True)
    def offline(self, write, tmp_path, monkeypatch):
        def refuse(url, **_):
            raise DownloadError(f"Failed to get url {url}. HTTP code: 404.")

        monkeypatch.setattr(downloader, "_open_url", refuse)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**12))
        (tmp_path / "archives").mkdir()
        yield
        assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("cars", ("cars_train.tgz", "HTTP code: 404", "dead since 2023", "set repacked")),
            ("sun397", ("SUN397.tar.gz", "dead since 2025", "into {}/archives and run")),
            ("eurosat", ("put EuroSAT.zip into", "zenodo.org")),
            ("domainnet", ("clipart_train.txt", "domainnet/clipart cannot be downloaded")),
        ],
    )
    def test_dead_links(self, name, words, tmp_path, capfd):
        assert run(tmp_path, name) == 2
        shown = capfd.readouterr().err
        for word in words:
            assert word.format(tmp_path) in shown

    def test_archives_with_other_content_are_refused_unless_allowed(self, write, tmp_path, capfd):
        write("cifar10")
        assert run(tmp_path, "cifar10") == 2
        shown = capfd.readouterr().err
        assert (
            "has wrong checksum: " in shown and "with repacked, an archive that you packed" in shown
        )

    def test_damaged_archives(self, write, tmp_path, capfd):
        write("dtd")
        archive = tmp_path / "archives" / "dtd" / "dtd-r1.0.1.tar.gz"
        archive.write_bytes(archive.read_bytes()[:-2000])
        assert run(tmp_path, "dtd", "--repacked") == 2
        assert f"{archive} is damaged or not the publishers' (" in capfd.readouterr().err

    def test_archives_that_lead_out_or_link_are_refused(self, write, tmp_path, capfd):
        write("dtd")
        archive = tmp_path / "archives" / "dtd" / "dtd-r1.0.1.tar.gz"
        packing.tar(archive, {"dtd/labels/one.txt": b"", "../outside.txt": b""})
        assert run(tmp_path, "dtd", "--repacked") == 2
        shown = capfd.readouterr().err
        assert "dtd-r1.0.1.tar.gz holds '../outside.txt', which leads out" in shown

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("svhn", None),  # shortened
            ("svhn", b"no matrices" * 50),
            ("imagenet", b"no archive" * 100),
            ("pcam", gzip.compress(b"no arrays" * 100, mtime=0)),
            ("pcam", gzip.compress(b"", mtime=0)),
        ],
        ids=["shortened", "no matrices", "no archive", "no arrays", "nothing"],
    )
    def test_damaged_files(self, name, content, write, tmp_path, capfd):
        write(name)
        for archive in (tmp_path / "archives" / name).glob("*[5rtz]"):
            if archive.suffix != ".txt":
                whole = archive.read_bytes()
                archive.write_bytes(whole[: len(whole) // 2] if content is None else content)
        assert run(tmp_path, name, "--repacked") == 2
        shown = capfd.readouterr().err
        assert " is damaged or not the publishers' (" in shown and "fetch it again" in shown
        assert f"{tmp_path}/archives/{name}" in shown

    @pytest.mark.parametrize("name", ["food101", "eurosat", "cars"])
    def test_archives_of_another_layout(self, name, write, tmp_path, capfd):
        write(name)
        for archive in (tmp_path / "archives" / name).glob("*[pz]"):
            files = {"elsewhere/notes.txt": b"nothing"}
            (packing.zipped if archive.suffix == ".zip" else packing.tar)(archive, files)
        assert run(tmp_path, name, "--repacked") == 2
        assert "archives" in capfd.readouterr().err
