"""Every data set of the catalogue, prepared by its own builder from archives in its own layout."""

import importlib.util
from dataclasses import replace

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
def small(tmp_path, monkeypatch):
    """Writes a data set's archives, and makes the tables say what is in them."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    for variable in ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"):
        monkeypatch.setenv(variable, "0")  # set by the launcher, unset again afterwards
    for module, number in (("_TRAIN_EXAMPLES", archives.TRAIN), ("_TEST_EXAMPLES", archives.TEST)):
        monkeypatch.setattr(mnist, module, archives.CLASSES * number)
    digits = mnist.EMNIST.builder_configs["digits"]
    monkeypatch.setattr(digits, "train_examples", archives.CLASSES * archives.TRAIN)
    monkeypatch.setattr(digits, "test_examples", archives.CLASSES * archives.TEST)

    labels = str(tmp_path / "archives" / "imagenet" / "labels.txt")
    monkeypatch.setattr(imagenet_common, "_VALIDATION_LABELS_FNAME", labels)

    def write(name):
        folder = tmp_path / "archives" / name
        folder.mkdir(parents=True)
        splits = archives.LAYOUTS[name](folder)
        data = catalogue.DATA_SETS[name]
        train = sum(splits[split] for split in data.train.split("+"))
        if data.split:
            train, test = round(train * data.split.train), 0
        else:
            test = sum(splits[split] for split in data.test.split("+"))
        entry = replace(
            data,
            classes=min(data.classes, archives.CLASSES),
            train_size=train,
            test_size=test,
        )
        monkeypatch.setitem(catalogue.DATA_SETS, name, entry)
        monkeypatch.setattr(counts, "_DOMAINNET", dict.fromkeys(counts._DOMAINNET, (train, test)))
        return splits

    return write


def run(tmp_path, *names, repacked=True) -> int:
    arguments = [*names, "--data-dir", str(tmp_path / "data")]
    arguments += ["--manual-dir", str(tmp_path / "archives")] + ["--repacked"] * repacked
    try:
        return exit_code(lambda: prepare.main(arguments))
    except SystemExit as ending:
        return ending.code


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
def test_prepares_from_the_publishers_archives(name, small, tmp_path, capfd):
    splits = small(name)
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
