import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from magmax_jax.data import load_source
from magmax_jax.data.load import is_folder_of_images, load_test_images
from magmax_jax.data.source import hold_out, rank_in_group
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
        # Raw values 0..16 of the first digit, a zero.
        np.testing.assert_array_equal(train.images[0][0, :, 1], [0, 0, 80, 207, 143, 16, 0, 0])


class TestDigitsInStyles:
    def test_three_domains_of_the_same_digits(self):
        styles, digits = load_source("digits_styles", "test"), load_source("digits", "test")
        assert styles.domain_names == ("plain", "inverted", "coloured")
        np.testing.assert_array_equal(np.bincount(styles.domains), [355] * 3)
        np.testing.assert_array_equal(styles.labels.reshape(3, -1), [digits.labels] * 3)
        plain, inverted, coloured = styles.images.reshape(3, 355, 8, 8, 3)
        np.testing.assert_array_equal(plain, digits.images)
        np.testing.assert_array_equal(inverted, 255 - digits.images)
        assert styles.images.dtype == np.uint8 and styles.domains.dtype == np.int32
        # Ink on black: no brighter than the digit, one colour per image.
        assert (coloured <= plain).all() and (coloured.max(-1) == plain.max(-1)).all()
        assert len(np.unique(coloured.max((1, 2)), axis=0)) >= 6

    def test_splits_match_digits(self):
        assert len(load_source("digits_styles", "train")) == 3 * 1442


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

    def test_a_folder_name_may_include_its_path(self, tmp_path):
        write(tmp_path / "here" / "train" / "cat" / "a.png", picture(1))
        source = load_source(f"folder:{tmp_path / 'here'}", "train", str(tmp_path / "elsewhere"))
        assert source.class_names == ("cat",) and len(source) == 1

    def test_a_folder_of_classes_is_split_by_image_names(self, tmp_path):
        for number in range(10):
            for name in ("cat", "train"):  # a railway train, not training images
                write(tmp_path / name / f"{number}.png", picture(number))
        train, test = (load_source("folder", split, str(tmp_path)) for split in ("train", "test"))
        assert train.class_names == test.class_names == ("cat", "train")
        np.testing.assert_array_equal(np.bincount(train.labels), [8, 8])
        np.testing.assert_array_equal(np.bincount(test.labels), [2, 2])
        assert not set(train.images.paths) & set(test.images.paths)
        elsewhere = tmp_path.rename(tmp_path.with_name("elsewhere"))
        again = load_source("folder", "test", str(elsewhere))
        names = [[Path(path).name for path in found.images.paths] for found in (test, again)]
        assert names[0] == names[1]
        whole = load_test_images("folder", str(elsewhere))
        assert len(whole) == 20 and whole.image_shape == (6, 9)

    def test_every_class_of_a_domain_is_divided(self, tmp_path):
        for leaf in ("photo/cat", "photo/dog", "sketch/cat"):
            for number in range(5):
                write(tmp_path / leaf / f"{number}.png", picture(number))
        test = load_source("folder", "test", str(tmp_path))
        np.testing.assert_array_equal(test.labels, [0, 1, 0])
        np.testing.assert_array_equal(test.domains, [0, 0, 1])
        train = load_source("folder", "train", str(tmp_path))
        np.testing.assert_array_equal(train.domains, [0] * 8 + [1] * 4)

    def test_test_images_need_no_training_images(self, tmp_path):
        write(tmp_path / "test" / "cat" / "a.png", picture())
        assert len(load_test_images(f"folder:{tmp_path}")) == 1
        assert len(load_test_images(f"folder:{tmp_path / 'test'}")) == 1
        with pytest.raises(UserError, match=r"train: there is no such folder; .* must hold train/"):
            load_source("folder", "train", str(tmp_path))

    def test_a_directory_is_not_a_data_set_name(self, tmp_path, monkeypatch):
        write(tmp_path / "pets" / "cat" / "a.png", picture())
        monkeypatch.chdir(tmp_path)
        for dataset in ("pets", str(tmp_path / "pets")):
            with pytest.raises(UserError, match=f"write folder:{dataset}$"):
                load_source(dataset, "train")

    def test_models_and_runs_are_not_image_folders(self, tmp_path):
        for root in (tmp_path, tmp_path / "test"):
            assert not is_folder_of_images(str(root))
        write(tmp_path / "test" / "photo" / "cat" / "a.png", picture())
        for root in (tmp_path, tmp_path / "test", tmp_path / "test" / "photo"):
            assert is_folder_of_images(str(root))
        assert is_folder_of_images(str(tmp_path / "test" / "photo" / "cat"))  # not a class folder
        (tmp_path / "test" / "config.json").write_text("{}")  # possibly with plots inside
        assert not is_folder_of_images(str(tmp_path))

    def test_errors_name_the_cause(self, tmp_path):
        for dataset in ("folder", "folder:"):
            with pytest.raises(UserError, match=r"needs scenario\.data_dir"):
                load_source(dataset, "train")
        with pytest.raises(UserError, match=r"train: there is no such folder"):
            load_source("folder", "train", str(tmp_path))
        with pytest.raises(
            UserError, match=r"nowhere: there is no such folder: name a folder of images$"
        ):
            load_source("folder", "train", str(tmp_path / "nowhere"))
        (tmp_path / "train").mkdir()
        with pytest.raises(UserError, match="contains no folders"):
            load_source("folder", "train", str(tmp_path))
        table = tmp_path / "train" / "train-00000-of-00001.parquet"
        table.touch()  # as in a data set's repository on the hub
        with pytest.raises(UserError, match="train: it holds parquet files, not images"):
            load_source("folder", "train", str(tmp_path))
        (tmp_path / "train" / "cat").mkdir()
        with pytest.raises(UserError, match="cat: it contains no image"):
            load_source("folder", "train", str(tmp_path))
        table.rename(tmp_path / "train" / "cat" / table.name)
        with pytest.raises(UserError, match="cat: it holds parquet files, not images"):
            load_source("folder", "train", str(tmp_path))
        (tmp_path / "train" / "cat" / table.name).unlink()
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


@needs_shared("data/pacs")
def test_pacs():
    source = load_source("folder", "train", str(SHARED / "data/pacs"))
    assert len(source) == 1786 and source.image_shape == (128, 128)
    assert source.domain_names == ("art_painting", "cartoon", "photo", "sketch")
    assert source.class_names[0] == "dog" and source.images[0].shape == (128, 128, 3)
