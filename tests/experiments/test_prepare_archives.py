"""Every data set of the catalogue, prepared by its own builder from archives in its own layout."""

import importlib.util

import numpy as np
import pytest
from tensorflow_datasets.datasets.imagenet2012 import imagenet_common
from tensorflow_datasets.image_classification import mnist

from experiments import prepare
from magmax_jax.data import catalogue, counts, load_source
from magmax_jax.errors import exit_code
from tests.data import archives

WITH_TENSORFLOW = all(
    importlib.util.find_spec(module)
    for module in ("tensorflow", "importlib_resources", "cv2", "scipy", "h5py")
)
needs_tensorflow = pytest.mark.skipif(
    not WITH_TENSORFLOW, reason="preparing it needs requirements-prepare.txt"
)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a data set's archives, and makes every table say what is in them."""
    for variable in ("CUDA_VISIBLE_DEVICES", "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"):
        monkeypatch.setenv(variable, "")  # set by the launcher, as they were again afterwards
    train, test = (archives.CLASSES * number for number in (archives.TRAIN, archives.TEST))
    monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", train)
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", test)
    monkeypatch.setattr(mnist.EMNIST.builder_configs["digits"], "train_examples", train)
    monkeypatch.setattr(mnist.EMNIST.builder_configs["digits"], "test_examples", test)
    monkeypatch.setattr(counts, "_DOMAINNET", dict.fromkeys(counts._DOMAINNET, (train, test)))
    labels = tmp_path / "archives" / "imagenet" / "labels.txt"
    monkeypatch.setattr(imagenet_common, "_VALIDATION_LABELS_FNAME", str(labels))
    return lambda name: archives.small(name, tmp_path / "archives" / name, monkeypatch)


def run(tmp_path, name) -> int:
    folders = ["--data-dir", str(tmp_path / "data"), "--manual-dir", str(tmp_path / "archives")]
    return exit_code(lambda: prepare.main([name, *folders, "--repacked"]))


def assert_colours_are_those_of_the_labels(source):
    assert len(source) > 0
    for image, label in zip(source.images, source.labels, strict=True):
        colour = image.reshape(-1, 3).mean(0)
        grey = np.ptp(colour) < 1
        expected = archives.GREYS[label] if grey else archives.COLOURS[label]
        np.testing.assert_allclose(colour, expected, atol=6)  # JPEG's


@pytest.mark.parametrize(
    "name",
    [n if n == "gtsrb" else pytest.param(n, marks=needs_tensorflow) for n in archives.LAYOUTS],
)
def test_prepares_from_the_publishers_archives(name, write, tmp_path, capfd):
    splits = write(name)
    assert run(tmp_path, name) == 0, capfd.readouterr().err
    shown = capfd.readouterr()
    for split, images in splits.items():
        assert f"{split} {images}" in shown.out or name == "dtd"
    assert "recorded in magmax.json" in shown.out and shown.err == ""
    data = catalogue.DATA_SETS[name]
    sources = [
        load_source(data.builder, split, str(tmp_path / "data"))
        for split in ("train",) + ("test",) * (data.split is None and name != "imagenet")
    ]
    for source in sources:
        assert_colours_are_those_of_the_labels(source)
    left = [*(tmp_path / "data").rglob("*incomplete*"), *(tmp_path / "data").rglob("extracted")]
    assert not [path for path in left if path.is_file() or any(path.iterdir())]

    assert run(tmp_path, name) == 0
    again = capfd.readouterr().out
    assert "as recorded" in again and "preparing" not in again
