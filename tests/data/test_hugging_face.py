"""Splits of Hugging Face `datasets`, made with the real package (pip install datasets)."""

import pickle

import numpy as np
import pytest
from PIL import Image

from magmax_jax.data import as_source, train_batches
from magmax_jax.data.digest import digest
from magmax_jax.data.readers.folder import load_folder
from magmax_jax.errors import UserError

pytestmark = pytest.mark.slow
datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 8, 6, 3), np.uint8)
MODES = ("RGB", "L", "RGBA", "P", "1")
PICTURES = [Image.fromarray(a).convert(mode) for a, mode in zip(RGB, MODES, strict=True)]
LABELS = [0, 1, 1, 0, 1]


@pytest.fixture
def split():
    features = datasets.Features(
        {
            "id": datasets.Value("int64"),
            "picture": datasets.Image(),
            "animal": datasets.ClassLabel(names=["cat", "dog"]),
        }
    )
    columns = {"id": range(5), "picture": PICTURES, "animal": LABELS}
    return datasets.Dataset.from_dict(columns, features=features)


def test_a_split_becomes_a_source_of_its_pictures(split):
    source = as_source(split)
    expected = as_source((PICTURES, LABELS, ("cat", "dog")))
    assert digest([source]) == digest([expected]) and source.image_shape == (8, 6)
    assert digest([pickle.loads(pickle.dumps(source))]) == digest([expected])
    reversed_ = as_source(split.select(range(4, -1, -1)).with_format("numpy"))
    assert reversed_.labels.tolist() == LABELS[::-1]
    np.testing.assert_array_equal(reversed_.images[0], source.images[4])


def test_worker_processes_read_pictures_of_mixed_sizes(split):
    sizes = [picture.resize((8 + i, 8)) for i, picture in enumerate(PICTURES)]
    columns = {"picture": sizes, "animal": LABELS}
    features = split.select_columns(["picture", "animal"]).features
    source = as_source(datasets.Dataset.from_dict(columns, features=features))
    assert source.image_shape is None
    found = [
        [batch.image for batch in train_batches(source, np.arange(5), 2, 1, 0, 8, workers=workers)]
        for workers in (0, 1)
    ]
    for alone, together in zip(*found, strict=True):
        np.testing.assert_array_equal(alone, together)


def test_anything_but_a_split_is_refused(split):
    unnamed = split.cast_column("animal", datasets.Value("int64"))
    for data, message in (
        (datasets.DatasetDict({"train": split}), "dictionary of splits: pass one of them .train."),
        (split.to_iterable_dataset(), "it is a stream: load the split without streaming"),
        (unnamed, "1 of its columns are Image and 0 ClassLabel, among id, picture, animal"),
        (split.select([]), "there are no images"),
    ):
        with pytest.raises(UserError, match=message):
            as_source(data)
    features = datasets.Features({**split.features, "picture": datasets.Image()})
    rows = [{"id": 0, "picture": None, "animal": 0}]
    with pytest.raises(UserError, match="image 0 is missing: drop its row"):
        as_source(datasets.Dataset.from_list(rows, features=features))


def test_integer_labels_are_named_as_the_sentence_says_and_stay_what_they_are(split):
    columns = {"picture": PICTURES, "animal": [0, 1, 2, 10, 11]}
    unnamed = datasets.Dataset.from_dict(columns).cast_column("picture", datasets.Image())
    with pytest.raises(UserError, match=r"cast_column\(NAME, ClassLabel\(names=\[...\]\)\)"):
        as_source(unnamed)
    names = tuple(f"animal {number}" for number in range(12))
    named = unnamed.cast_column("animal", datasets.ClassLabel(names=list(names)))
    source = as_source(named)
    assert source.labels.tolist() == [0, 1, 2, 10, 11] and source.class_names == names
    encoded = as_source(unnamed.class_encode_column("animal"))  # otherwise, drop the advice
    assert encoded.labels.tolist() == [0, 1, 4, 2, 3]


def test_images_without_a_label(split):
    """What load_dataset("imagefolder") makes of a class named "test tube" beside others."""
    features = split.select_columns(["picture", "animal"]).features
    columns = {"picture": PICTURES, "animal": [0, None, 1, None, None]}
    with pytest.raises(UserError, match=r"image 1 and 2 more have no label: drop .*folder:DIR'"):
        as_source(datasets.Dataset.from_dict(columns, features=features))
    with pytest.raises(UserError, match=r"0 ClassLabel, among picture: .* named like a split"):
        as_source(split.select_columns(["picture"]))


def test_classes_named_like_splits(tmp_path):
    """A folder is read whole, where `datasets` drops images or labels."""
    for name in ("bus", "train", "test tube", "dev_board"):
        (tmp_path / name).mkdir()
        PICTURES[0].save(tmp_path / name / "train_0.png")
    source = load_folder(str(tmp_path), "train")
    assert source.class_names == ("bus", "dev_board", "test tube", "train")
    assert source.labels.tolist() == [0, 1, 2, 3]
    found = datasets.load_dataset("imagefolder", data_dir=str(tmp_path), cache_dir=tmp_path / "c")
    assert all(len(part) < 4 for part in found.values())  # otherwise, drop the advice
