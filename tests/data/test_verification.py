"""Verification of prepared data sets: counts, fingerprints, damage, subsets."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from magmax_jax.data import load_source
from magmax_jax.data.prepare import expected, fingerprint
from magmax_jax.data.prepare.fingerprint import RECORD
from magmax_jax.data.prepare.prepare import NullDisplay, Options, prepare
from magmax_jax.data.seeded_split import SeededSplit
from magmax_jax.errors import UserError
from tests.data import SHARED, archives, needs_shared
from tests.data.rows import ROWS, prepared_rows, with_tfds


class Lines(NullDisplay):
    """Collects the printed lines."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Options: the archives and where to prepare them."""
    archives.small("gtsrb", tmp_path / "archives", monkeypatch)
    return Options(str(tmp_path / "data"), tmp_path / "archives", repacked=True)


@pytest.fixture
def prepared(folders):
    """A prepared data set, and its folder."""
    prepare("gtsrb", folders)
    return folders, Path(folders.data_dir) / "gtsrb" / "1.0.0"


def test_the_record_holds_what_was_found(prepared):
    options, folder = prepared
    recorded = json.loads((folder / RECORD).read_text())
    assert recorded["data_set"] == "gtsrb/1.0.0"
    train = recorded["splits"]["train"]
    assert train["images"] == 15 and train["per_class"][:4] == [5, 5, 5, 0]
    lines = Lines()
    prepare("gtsrb", replace(options, verify=True), lines)
    assert lines.lines == ["gtsrb: train 15, test 6; 3 classes; as recorded"]


def test_damage_is_reported(prepared):
    options, folder = prepared
    shard = next(folder.glob("gtsrb-test*"))
    whole = shard.read_bytes()
    middle = len(whole) // 2
    flipped = bytes(byte ^ 255 for byte in whole[middle : middle + 40])
    for damaged in (whole[:middle] + flipped + whole[middle + 40 :], whole[:middle], b""):
        shard.write_bytes(damaged)
        with pytest.raises(UserError, match=r"gtsrb: its test split .*remove .* prepare it ag"):
            prepare("gtsrb", options)
    shard.unlink()
    with pytest.raises(UserError, match=r"gtsrb: its test split cannot be read"):
        prepare("gtsrb", options)
    shard.write_bytes(whole)
    prepare("gtsrb", options)


def test_changes_are_reported(prepared):
    options, folder = prepared
    path = folder / RECORD
    recorded = json.loads(path.read_text())
    recorded["splits"]["train"]["sha256"] = "0" * 64
    path.write_text(json.dumps(recorded))
    with pytest.raises(UserError, match=r"its train split is not what .* recorded .*changed"):
        prepare("gtsrb", options)
    recorded["splits"]["train"]["sha256"] = 0
    for content in ("{", json.dumps(recorded)):
        path.write_text(content)
        with pytest.raises(UserError, match=r"magmax.json cannot be read: remove it"):
            prepare("gtsrb", options)


def test_a_subset_is_accepted_but_not_when_made_from_archives(prepared, monkeypatch):
    options, folder = prepared
    (folder / RECORD).unlink()
    entry = replace(ROWS["gtsrb"], train_size=26_640)
    monkeypatch.setitem(ROWS, "gtsrb", entry)
    lines = Lines()
    prepare("gtsrb", options, lines)
    assert lines.lines[0].startswith("gtsrb: train a subset: 15 of 26,640, test 6; 3 classes;")
    shutil.rmtree(folder)
    with pytest.raises(
        UserError, match=r"has 15 images in train, but 26,640 are published.* stays in"
    ):
        prepare("gtsrb", options)
    assert folder.exists()  # a mismatched count must not discard hours of work


@pytest.fixture
def divided(prepared, monkeypatch):
    """gtsrb, as if its test images were drawn from the training images."""
    entry = with_tfds(replace(ROWS["gtsrb"], train_size=12), split=SeededSplit())
    monkeypatch.setitem(ROWS, "gtsrb", entry)
    return *prepared, entry


def test_verifying_writes_and_removes_nothing(divided):
    options, folder, _ = divided
    (folder / RECORD).unlink()
    kept = Path(options.data_dir) / "downloads" / "gtsrb" / "archive.zip"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.touch()

    def state():
        return {path: path.stat().st_mtime_ns for path in Path(options.data_dir).rglob("*")}

    before, lines = state(), Lines()
    prepare("gtsrb", replace(options, verify=True, keep_archives=False), lines)
    assert lines.lines[0].endswith("; not recorded: verify writes nothing")
    assert state() == before


def test_a_split_is_read_and_written_once(divided, monkeypatch):
    options, folder, entry = divided
    prepare("gtsrb", options)
    path = folder / fingerprint.DIVISION
    written = path.stat().st_mtime_ns, path.read_text()
    read, reads = fingerprint.read_columns, []
    monkeypatch.setattr(fingerprint, "read_columns", lambda *a: reads.append(a) or read(*a))
    prepare("gtsrb", options)
    assert not reads and (path.stat().st_mtime_ns, path.read_text()) == written
    path.write_text('{"seed": 5}')  # from another version
    prepare("gtsrb", options)
    assert len(reads) == 1 and path.read_text() == written[1]
    other = with_tfds(entry, split=SeededSplit(seed=6))
    monkeypatch.setitem(ROWS, "gtsrb", other)
    prepare("gtsrb", options)
    assert len(reads) == 2 and path.read_text() != written[1]


@pytest.mark.parametrize("verify", [False, True])
def test_test_images_that_a_run_refuses_are_reported(divided, monkeypatch, verify):
    options, folder, entry = divided
    split = replace(entry.tfds.split, fingerprint="0" * 64)
    monkeypatch.setitem(ROWS, "gtsrb", with_tfds(entry, split=split))
    with pytest.raises(UserError, match=r"gtsrb: its 3 test images are not those of the publi"):
        prepare("gtsrb", replace(options, verify=verify))
    assert not (folder / fingerprint.DIVISION).exists()


def test_a_seeded_split_is_recorded(divided, monkeypatch):
    options, folder, entry = divided
    assert not (folder / fingerprint.DIVISION).exists()
    prepare("gtsrb", options)
    listed = json.loads((folder / fingerprint.DIVISION).read_text())
    archives.readable("gtsrb", monkeypatch)
    monkeypatch.setitem(ROWS, "gtsrb", replace(entry, classes=43))
    for split, count in (("train", 12), ("test", 3)):
        source = load_source("gtsrb", split, options.data_dir)
        names = [source.images.records[row]["filename"].decode() for row in source.images.rows]
        assert sorted(names) == listed[split] and len(names) == count


def test_too_many_images_and_missing_classes_are_reported(prepared, monkeypatch):
    options, _ = prepared
    entry = ROWS["gtsrb"]
    monkeypatch.setitem(ROWS, "gtsrb", replace(entry, test_size=5))
    with pytest.raises(UserError, match="has 6 images in test, but 5 are published"):
        prepare("gtsrb", options)
    monkeypatch.setitem(ROWS, "gtsrb", replace(entry, classes=43))
    with pytest.raises(UserError, match="has images of 3 classes in train, of 43 published"):
        prepare("gtsrb", options)


def test_unequal_classes_are_reported(prepared, monkeypatch):
    options, _ = prepared
    entry = with_tfds(ROWS["gtsrb"], balanced=("train", "test"))
    monkeypatch.setitem(ROWS, "gtsrb", entry)
    real = fingerprint.examine

    def uneven(builder, advance):
        found = real(builder, advance)
        return found | {"test": replace(found["test"], per_class=[3, 2, 1] + [0] * 40)}

    monkeypatch.setattr(fingerprint, "examine", uneven)
    monkeypatch.setattr(fingerprint, "compare", lambda builder, found: True)
    with pytest.raises(UserError, match="has 1 to 3 images of a class in test"):
        prepare("gtsrb", options)


def test_another_number_of_images_per_class_is_reported(prepared, monkeypatch):
    options, _ = prepared
    for test in ((2, 2, 2), (2, 3, 1)):
        per_class = {"train": (5, 5, 5), "test": test}
        monkeypatch.setitem(ROWS, "gtsrb", with_tfds(ROWS["gtsrb"], per_class=per_class))
        if test == (2, 2, 2):
            prepare("gtsrb", options)
    with pytest.raises(UserError, match="gtsrb has 2 images of the class 1 in test, of 3 publ"):
        prepare("gtsrb", options)
    entry = replace(ROWS["gtsrb"], test_size=7)
    monkeypatch.setitem(ROWS, "gtsrb", entry)
    prepare("gtsrb", options)  # a subset


def test_the_tables_are_consistent():
    rows = [row for row in prepared_rows() if row.tfds.domains != "configs"]
    for data in (row for row in rows if row.tfds.per_class):
        splits = data.tfds.per_class
        assert expected.expected(data, None) == {split: sum(each) for split, each in splits.items()}
        assert all(len(each) == data.classes for each in splits.values())
    for data in (row for row in rows if row.tfds.balanced):
        for split, images in expected.expected(data, None).items():
            balanced = set(split.split("+")) <= set(data.tfds.balanced)
            assert not balanced or images % data.classes == 0
    names = tfds.builder("eurosat/rgb").info.features["label"].names
    images = ROWS["eurosat"].tfds.per_class["train"]
    assert dict(zip(names, images, strict=True))["Pasture"] == 2000


def test_sizes_of_domains_add_up():
    data = ROWS["domainnet"]
    sizes = [expected.expected(data, domain) for domain in data.domain_names]
    assert sum(size["train"] for size in sizes) == data.train_size
    assert sum(size["test"] for size in sizes) == data.test_size


def test_an_unwritable_folder_is_tolerated(prepared, monkeypatch):
    options, folder = prepared
    (folder / RECORD).unlink()

    def refuse(path, text):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(fingerprint, "write_text", refuse)
    lines = Lines()
    prepare("gtsrb", options, lines)
    assert lines.lines[0].endswith(f"not recorded: {folder} cannot be written")


def test_a_full_disk_is_not_taken_for_an_unwritable_folder(prepared, monkeypatch):
    options, folder = prepared
    wanted = (folder / RECORD).read_bytes()
    (folder / RECORD).unlink()

    def refuse(path, text):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "write_text", refuse)
        with pytest.raises(UserError, match=f"{RECORD} cannot be written .No space left"):
            prepare("gtsrb", options, Lines())
    prepare("gtsrb", options, Lines())
    assert (folder / RECORD).read_bytes() == wanted


def test_tfrecords_are_reported(prepared):
    options, folder = prepared
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match=r"prepared as tfrecord .* needs TensorFlow to read"):
        prepare("gtsrb", options)


@needs_shared("tensorflow_datasets/cifar100")
def test_a_real_subset(tmp_path):
    real = SHARED / "tensorflow_datasets" / "cifar100" / "3.0.2"
    folder = tmp_path / "cifar100" / "3.0.2"  # links, because nothing may be written next to it
    folder.mkdir(parents=True)
    for file in real.iterdir():
        (folder / file.name).symlink_to(file)
    lines = Lines()
    for _ in range(2):
        prepare("cifar100", Options(str(tmp_path)), lines)
    summary = "cifar100: train a subset: 20,000 of 50,000, test a subset: 5,000 of 10,000; "
    summary += "100 classes; "
    assert lines.lines == [summary + f"recorded in {RECORD}", summary + "as recorded"]
    test = json.loads((folder / RECORD).read_text())["splits"]["test"]
    assert test["per_class"] == [50] * 100
