import io
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from magmax_jax.data import builders, load_source
from magmax_jax.data.sources import hold_out, rank_in_group
from magmax_jax.errors import UserError
from tests.data import SHARED, needs_shared


def picture(seed=0, height=6, width=9, channels=3):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), np.uint8)


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.squeeze()).save(path)


def test_rank_in_group_counts_within_the_group():
    np.testing.assert_array_equal(rank_in_group(np.array([3, 7, 3, 3, 7])), [0, 0, 1, 2, 1])


def test_hold_out_takes_every_fifth_of_each_class_once():
    labels = np.random.default_rng(0).integers(0, 7, 400)
    train, test = hold_out(labels, "train"), hold_out(labels, "test")
    np.testing.assert_array_equal(np.sort(np.r_[train, test]), np.arange(400))
    np.testing.assert_array_equal(np.bincount(labels[test]), np.bincount(labels) // 5)


class TestDigits:
    def test_split(self):
        train, test = load_source("digits", "train"), load_source("digits", "test")
        assert (len(train), len(test)) == (1442, 355)
        assert train.class_names == tuple("0123456789")
        assert set(test.labels) == set(range(10)) and test.labels.dtype == np.int32
        whole = {image.tobytes() for image in train.images}
        assert not whole & {image.tobytes() for image in test.images}

    def test_images(self):
        train = load_source("digits", "train")
        assert train.images.dtype == np.uint8 and train.images.shape == (1442, 8, 8, 3)
        assert train.image_shape == (8, 8) and train.domains is None
        # The raw values 0..16 of the first digit, a zero.
        np.testing.assert_array_equal(train.images[0][0, :, 1], [0, 0, 80, 207, 143, 16, 0, 0])


class TestFolder:
    def test_classes(self, tmp_path):
        images = {"cat": picture(1), "red_fox": picture(2, channels=1)}
        for name, image in images.items():
            write(tmp_path / "train" / name / "a.png", image)
        (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
        (tmp_path / "train" / ".DS_Store").write_text("")
        source = load_source("folder", "train", str(tmp_path))
        assert source.class_names == ("cat", "red_fox") and source.domains is None
        assert source.image_shape == (6, 9)
        for i, image in enumerate(images.values()):
            np.testing.assert_array_equal(source.images[i], np.broadcast_to(image, (6, 9, 3)))

    def test_domains_may_lack_a_class(self, tmp_path):
        for i, name in enumerate(["photo/cat", "photo/dog", "sketch/dog"]):
            write(tmp_path / "test" / name / "a.png", picture(i, height=6 + i))
        source = load_source("folder", "test", str(tmp_path))
        assert source.domain_names == ("photo", "sketch") and source.class_names == ("cat", "dog")
        np.testing.assert_array_equal(source.labels, [0, 1, 1])
        np.testing.assert_array_equal(source.domains, [0, 0, 1])
        assert source.image_shape is None
        copy = pickle.loads(pickle.dumps(source))
        np.testing.assert_array_equal(copy.images[2], picture(2, height=8))

    def test_mistakes_are_named(self, tmp_path):
        with pytest.raises(UserError, match="needs data_dir"):
            load_source("folder", "train")
        with pytest.raises(UserError, match=r"train: there is no such folder"):
            load_source("folder", "train", str(tmp_path))
        (tmp_path / "train").mkdir()
        with pytest.raises(UserError, match="holds no folders"):
            load_source("folder", "train", str(tmp_path))
        (tmp_path / "train" / "cat").mkdir()
        with pytest.raises(UserError, match="cat: it holds no image"):
            load_source("folder", "train", str(tmp_path))
        write(tmp_path / "train" / "cat" / "a.png", picture())
        write(tmp_path / "train" / "photo" / "dog" / "a.png", picture())
        with pytest.raises(UserError, match="two depths"):
            load_source("folder", "train", str(tmp_path))

    def test_damaged_images_are_named(self, tmp_path):
        path = tmp_path / "train" / "cat" / "a.png"
        write(path, picture(height=64, width=64))
        path.write_bytes(path.read_bytes()[:500])
        source = load_source("folder", "train", str(tmp_path))
        with pytest.raises(UserError, match=r"cat/a.png: the image is damaged"):
            source.images[0]
        path.write_bytes(b"no image at all")
        with pytest.raises(UserError, match=r"cat/a.png: not a readable image"):
            load_source("folder", "train", str(tmp_path))


class FakeRecords(list):
    def __getitems__(self, rows):
        return [self[row] for row in rows]


def fake_builder(splits, **features):
    """A prepared builder whose splits hold the given labels, each image being `picture(label)`."""

    def record(label):
        buffer = io.BytesIO()
        Image.fromarray(picture(abs(label), channels=1).squeeze()).save(buffer, "PNG")
        return {"image": buffer.getvalue(), "label": label}

    features = features or {
        "image": tfds.features.Image(shape=(None, None, 1)),
        "label": tfds.features.ClassLabel(names=["a", "b"]),
    }
    return SimpleNamespace(
        info=SimpleNamespace(features=features, splits=dict.fromkeys(splits)),
        as_data_source=lambda split, decoders: FakeRecords(map(record, splits[split])),
    )


class TestBuilders:
    @pytest.fixture
    def prepared(self, monkeypatch):
        def use(**by_name):
            monkeypatch.setattr(builders, "_prepared", lambda name, _: by_name[name])

        return use

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

    def test_domainnet_joins_its_domains(self, prepared):
        domains = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
        parts = {
            f"domainnet/{d}": fake_builder({"train": [i % 2] * (i + 1), "test": [0]})
            for i, d in enumerate(domains)
        }
        prepared(**parts)
        source = load_source("domainnet", "train")
        assert source.domain_names == domains and len(source) == len(source.images) == 21
        np.testing.assert_array_equal(np.bincount(source.domains), [1, 2, 3, 4, 5, 6])
        for index in (0, 1, 2, 3, 20):
            expected = picture(source.labels[index], channels=1)
            np.testing.assert_array_equal(source.images[index][..., :1], expected)

    def test_mistakes_are_named(self, prepared):
        prepared(
            text=fake_builder({"train": [0]}, text=None, label=None),
            detection=fake_builder({"train": [0]}, image=None, label=None),
            untrained=fake_builder({"test": [0], "extra": [0]}),
            hidden=fake_builder({"train": [0], "test": [-1]}),
        )
        with pytest.raises(UserError, match=r"text has the features text, label: .* needs image"):
            load_source("text", "train")
        with pytest.raises(UserError, match="no single class"):
            load_source("detection", "train")
        with pytest.raises(UserError, match="splits test, extra: none serves as train"):
            load_source("untrained", "train")
        with pytest.raises(UserError, match="images without a label"):
            load_source("hidden", "test")

    def test_unknown_and_unprepared_builders(self, tmp_path, caplog):
        with pytest.raises(UserError, match=r"'cifar1000': neither digits, folder nor a TFDS"):
            load_source("cifar1000", "train", str(tmp_path))
        with pytest.raises(UserError, match=r"mnist is not prepared .*file_format='array_record'"):
            load_source("mnist", "train", str(tmp_path))
        assert not caplog.records

    @needs_shared("tensorflow_datasets/cifar100")
    def test_cifar100(self):
        source = load_source("cifar100", "test", str(SHARED / "tensorflow_datasets"))
        assert len(source) == 5000 and source.image_shape == (32, 32)
        np.testing.assert_array_equal(np.bincount(source.labels), [50] * 100)
        assert source.class_names[1] == "aquarium_fish"
        copy = pickle.loads(pickle.dumps(source))
        np.testing.assert_array_equal(copy.images[7], source.images[7])
        assert copy.images[7].shape == (32, 32, 3)


@needs_shared("data/pacs")
def test_pacs():
    source = load_source("folder", "train", str(SHARED / "data/pacs"))
    assert len(source) == 1786 and source.image_shape == (128, 128)
    assert source.domain_names == ("art_painting", "cartoon", "photo", "sketch")
    assert source.class_names[0] == "dog" and source.images[0].shape == (128, 128, 3)
