import contextlib
import io
import tempfile
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from magmax_jax.data import load_source
from magmax_jax.data.prepare import prepare
from magmax_jax.data.published import published_domains, wordnet_ids
from magmax_jax.data.readers import tfds as builders
from magmax_jax.data.seeded_split import divide, fingerprint
from magmax_jax.errors import UserError
from tests.data.cases import WHY
from tests.data.rows import ROWS, with_tfds
from tests.data.test_sources import picture


class FakeRecords(list):
    def __getitems__(self, rows):
        return [self[row] for row in rows]


def fake_builder(splits, names=("a", "b"), files=None, **features):
    """A prepared builder whose splits hold the given labels; each image is `picture(label)`.

    files: the name of a feature, and for each split the names of its files.
    """
    features = features or {
        "image": tfds.features.Image(shape=(None, None, 1)),
        "label": tfds.features.ClassLabel(names=names),
    }
    key, files = files or (None, {})
    if key:
        features[key] = tfds.features.Text()

    def record(label, file):
        buffer = io.BytesIO()
        Image.fromarray(picture(abs(label), channels=1).squeeze()).save(buffer, "PNG")
        return {"image": buffer.getvalue(), "label": label, **({key: file.encode()} if key else {})}

    def read(split, decoders):
        parts = split.split("+")
        labels = [label for part in parts for label in splits[part]]
        named = [file for part in parts for file in files.get(part, [""] * len(splits[part]))]
        return FakeRecords(map(record, labels, named))

    info = SimpleNamespace(features=features, splits=dict.fromkeys(splits))
    return SimpleNamespace(info=info, as_data_source=read, data_dir="nowhere")


@pytest.fixture
def prepared(monkeypatch):
    def use(**by_name):
        monkeypatch.setattr(builders, "_prepared", lambda name, _: by_name[name])

    return use


class TestUnknownBuilders:
    def test_grey_images_become_rgb_and_validation_serves_as_test(self, prepared):
        prepared(toy=fake_builder({"train": [0, 1, 1], "validation": [1, 0]}))
        source = load_source("toy", "test")
        np.testing.assert_array_equal(source.labels, [1, 0])
        image = np.broadcast_to(picture(1, channels=1), (6, 9, 3))
        np.testing.assert_array_equal(source.images[0], image)
        assert source.image_shape is None and source.class_names == ("a", "b")

    def test_a_single_split_is_divided(self, prepared):
        prepared(toy=fake_builder({"train": [0, 1] * 10}))
        train, test = load_source("toy", "train"), load_source("toy", "test")
        assert (len(train), len(test), len(test.images)) == (16, 4, 4)
        np.testing.assert_array_equal(np.bincount(test.labels), [2, 2])
        np.testing.assert_array_equal(
            test.images[1], np.broadcast_to(picture(1, channels=1), (6, 9, 3))
        )

    def test_masks_stay_encoded(self, prepared):
        seen = {}
        builder = fake_builder({"train": [0], "test": [0]})
        builder.info.features["mask"] = tfds.features.Image(shape=(None, None, 1))
        read = builder.as_data_source
        builder.as_data_source = lambda split, decoders: seen.update(decoders) or read(split, None)
        prepared(toy=builder)
        load_source("toy", "test")
        assert set(seen) == {"image", "mask"}

    def test_errors_name_the_cause(self, prepared):
        prepared(
            text=fake_builder({"train": [0]}, text=None, label=None),
            detection=fake_builder({"train": [0]}, image=None, label=None),
            untrained=fake_builder({"test": [0], "extra": [0]}),
            hidden=fake_builder({"train": [0], "test": [-1]}),
        )
        with pytest.raises(
            UserError, match=r"text has the features text, label, but image and label are needed"
        ):
            load_source("text", "train")
        with pytest.raises(UserError, match="is not a single class"):
            load_source("detection", "train")
        with pytest.raises(UserError, match=r"splits test, extra: none can be used as train$"):
            load_source("untrained", "train")
        with pytest.raises(UserError, match="images without a label"):
            load_source("hidden", "test")


class TestKnownBuilders:
    def test_splits_match_the_table(self, prepared):
        names = [str(i) for i in range(47)]
        splits = {"train": [1, 2], "validation": [3], "test": [4]}
        prepared(dtd=fake_builder(splits, names))
        np.testing.assert_array_equal(load_source("dtd", "train").labels, [1, 2, 3])
        np.testing.assert_array_equal(load_source("dtd", "test").labels, [4])
        splits = {"train": [1], "validation": [2], "test": [-1]}
        prepared(imagenet2012=fake_builder(splits, [str(i) for i in range(1000)]))
        np.testing.assert_array_equal(load_source("imagenet", "test").labels, [2])

    def test_missing_splits_and_other_classes_are_named(self, prepared):
        prepared(dtd=fake_builder({"train": [0], "test": [0]}), food101=fake_builder({"train": []}))
        with pytest.raises(UserError, match=r"dtd has the splits train, test: .*train\+validation"):
            load_source("dtd", "train")
        with pytest.raises(UserError, match="dtd has 2 classes where dtd has 47"):
            load_source("dtd", "test")

    def test_gtsrb_is_read_like_the_others(self, prepared):
        names = [str(i) for i in range(43)]
        prepared(gtsrb=fake_builder({"train": [14], "test": [7]}, names))
        np.testing.assert_array_equal(load_source("gtsrb", "train").labels, [14])

    def test_another_config_may_have_other_classes(self, prepared):
        prepared(**{"emnist/letters": fake_builder({"train": [1], "test": [0]})})
        assert load_source("emnist/letters", "train").class_names == ("a", "b")

    @pytest.mark.parametrize("name", ["emnist", "emnist/letters", "emnist/byclass:3.1.0"])
    def test_emnist_is_turned_upright(self, name, prepared):
        features = {
            "image": tfds.features.Image(shape=(6, 9, 1)),
            "label": tfds.features.ClassLabel(names=[str(i) for i in range(10)]),
        }
        full = "emnist/digits" if name == "emnist" else name
        prepared(**{full: fake_builder({"train": [3], "test": [3]}, **features)})
        source = load_source(name, "test")
        upright = np.broadcast_to(picture(3, channels=1), (6, 9, 3)).transpose(1, 0, 2)
        np.testing.assert_array_equal(source.images[0], upright)
        assert source.image_shape == (9, 6) and source.images[0].flags.c_contiguous

    def test_domainnet_joins_its_domains(self, prepared):
        domains = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
        names = [str(i) for i in range(345)]
        parts = {
            f"domainnet/{d}": fake_builder({"train": [i % 2] * (i + 1), "test": [0]}, names)
            for i, d in enumerate(domains)
        }
        prepared(**parts)
        source = load_source("domainnet", "train")
        assert source.domain_names == domains and len(source) == len(source.images) == 21
        np.testing.assert_array_equal(np.bincount(source.domains), [1, 2, 3, 4, 5, 6])
        for index in (0, 1, 2, 3, 20):
            expected = picture(source.labels[index], channels=1)
            np.testing.assert_array_equal(source.images[index][..., :1], expected)
        alone = load_source("domainnet/real", "train")
        assert len(alone) == 5 and alone.domains is None

    def test_eurosat_is_divided_by_file_name(self, prepared):
        labels = np.repeat(np.arange(10), 20)
        files = [f"{label}_{i}.jpg" for i, label in enumerate(labels)]
        splits, names = {"train": labels.tolist()}, [str(i) for i in range(10)]
        prepared(**{"eurosat/rgb": fake_builder(splits, names, ("filename", {"train": files}))})
        train, test = load_source("eurosat", "train"), load_source("eurosat", "test")
        np.testing.assert_array_equal(np.bincount(train.labels), [16] * 10)
        np.testing.assert_array_equal(np.bincount(test.labels), [2] * 10)
        assert not set(train.images.rows) & set(test.images.rows)
        prepared(**{"eurosat/rgb": fake_builder(splits, names)})
        with pytest.raises(UserError, match="or prepare it again if it has lost its filename"):
            load_source("eurosat", "test")


class TestImageNetR:
    """TFDS has one split, labels out of 1000 WordNet ids, and the domain in each file name."""

    @pytest.fixture
    def renditions(self, prepared, monkeypatch):
        ids = sorted(wordnet_ids("imagenet_r"))
        names = sorted([*ids, *(f"n{i:08d}" for i in range(800))])
        domains = published_domains("imagenet_r")
        files = [f"{each}/{domain}_{i}.jpg" for each in ids for i, domain in enumerate(domains)]
        labels = [names.index(file.split("/")[0]) for file in files]

        def use(files, known):
            builder = fake_builder({"test": labels}, names, ("file_name", {"test": files}))
            prepared(imagenet_r=builder)
            data = ROWS["imagenet_r"]
            how = replace(data.tfds.split, fingerprint=known)
            monkeypatch.setitem(ROWS, "imagenet_r", with_tfds(data, split=how))
            return files, how

        return lambda known="", files=files: use(files, known)

    def test_classes_domains_and_split(self, renditions):
        files, how = renditions()
        train, test = load_source("imagenet_r", "train"), load_source("imagenet_r", "test")
        assert (len(train), len(test)) == (2400, 600)
        assert train.class_names == tuple(wordnet_ids("imagenet_r").values())
        assert (
            train.class_names == tuple(sorted(train.class_names)) and len(train.class_names) == 200
        )
        assert train.domain_names == tuple(sorted(published_domains("imagenet_r")))
        rows = divide(files, np.zeros(len(files)), how)
        for source, split in ((train, "train"), (test, "test")):
            for position, row in enumerate(rows[split]):
                wordnet_id, file = files[row].split("/")
                name = source.class_names[source.labels[position]]
                assert name == wordnet_ids("imagenet_r")[wordnet_id]
                assert source.domain_names[source.domains[position]] == file.split("_")[0]
        assert train.domains.dtype == train.labels.dtype == np.int32

    def test_the_split_is_the_published_one_or_none(self, renditions):
        files, how = renditions()
        known = fingerprint([files[i] for i in divide(files, np.zeros(len(files)), how)["test"]])
        renditions(known)
        assert len(load_source("imagenet_r", "test")) == 600
        renditions("0" * 64)
        with pytest.raises(UserError, match="not those of the published split"):
            load_source("imagenet_r", "test")

    def test_files_without_a_domain_are_named(self, renditions):
        files, _ = renditions()
        renditions(files=[file.replace("/art_", "/photo_") for file in files])
        with pytest.raises(UserError, match=r"/photo_\d+.jpg is named after none .*art, cartoon"):
            load_source("imagenet_r", "train")


def test_unknown_and_unprepared_builders(tmp_path, caplog):
    with pytest.raises(UserError, match=r"there is no data set 'cifar1000' \("):
        load_source("cifar1000", "train", str(tmp_path))
    for name, builder in (
        ("cub200", "caltech_birds2011"),
        ("emnist/letters", "emnist/letters"),
        ("emnist:3.1.0", "emnist/digits:3.1.0"),
    ):
        message = f"^{builder} is not prepared .*: set scenario.data_dir to the .*, or prepare"
        with pytest.raises(UserError, match=message) as raised:
            load_source(name, "train", str(tmp_path))
        assert raised.value.command == ("prepare", name, "--data-dir", str(tmp_path))
    assert not caplog.records


def test_a_data_set_that_is_not_prepared_leaves_no_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for look in (partial(load_source, split="train"), prepare.known):
        with contextlib.suppress(UserError):
            look("cub200", data_dir=str(tmp_path / "data"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "reason"), WHY.items())
def test_unknown_versions_and_configs(name, reason, tmp_path):
    pattern = rf"^there is no data set '{name}' \({reason}\): choose .* or a TFDS builder$"
    with pytest.raises(UserError, match=pattern):
        load_source(name, "train", str(tmp_path))
