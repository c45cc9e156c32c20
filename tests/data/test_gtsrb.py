"""GTSRB through our own builder: prepared and read without TensorFlow."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from magmax_jax.data import load_source
from magmax_jax.data.prepare.prepare import Options, known, prepare
from magmax_jax.errors import UserError
from tests.data import archives, packing


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Options: the archives and where to prepare them."""
    archives.small("gtsrb", tmp_path / "archives", monkeypatch)
    return Options(str(tmp_path / "data"), tmp_path / "archives", repacked=True)


def test_pictures_are_whole_and_classes_are_numbers(folders, monkeypatch):
    prepare("gtsrb", folders)
    archives.readable("gtsrb", monkeypatch)
    for split, per_class in (("train", packing.TRAIN), ("test", packing.TEST)):
        source = load_source("gtsrb", split, folders.data_dir)
        assert source.class_names == tuple(str(i) for i in range(43))
        np.testing.assert_array_equal(np.bincount(source.labels), [per_class] * packing.CLASSES)
        for image, label in zip(source.images, source.labels, strict=True):
            np.testing.assert_array_equal(image, packing.pixels(label, 16))
    records = tfds.data_source("gtsrb", split="train", data_dir=folders.data_dir)
    names = {record["filename"].decode() for record in records}
    assert "00002/00004_00000.ppm" in names and len(names) == len(records)


def test_prepares_and_reads_without_tensorflow(folders):
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from magmax_jax.data import load_source\n"
        "from magmax_jax.data.prepare import expected\n"
        "from magmax_jax.data.prepare.prepare import Options, known, prepare\n"
        "expected.expected = lambda data, config: {}\n"
        f"prepare('gtsrb', Options({folders.data_dir!r}, "
        f"Path({str(folders.manual_dir)!r}), repacked=True))\n"
        f"print(len(load_source('gtsrb', 'test', {folders.data_dir!r})))\n"
        "print('tensorflow' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert shown.stdout.split() == [str(packing.CLASSES * packing.TEST), "False"], shown.stderr


def test_reads_without_the_builder(folders):
    prepare("gtsrb", folders)
    program = (
        "import sys\n"
        "from magmax_jax.data import load_source\n"
        f"source = load_source('gtsrb', 'train', {folders.data_dir!r})\n"
        "print(len(source), source.images[0].shape)"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert shown.stdout.strip() == "15 (16, 16, 3)", shown.stderr


class TestDamage:
    """Damage to prepared data; a run reports it in one sentence."""

    @pytest.fixture
    def shard(self, folders, monkeypatch):
        prepare("gtsrb", folders)
        archives.readable("gtsrb", monkeypatch)
        return next(Path(folders.data_dir).glob("gtsrb/1.0.0/gtsrb-test*"))

    def test_files_damaged_or_gone_when_opened(self, shard, folders):
        whole = shard.read_bytes()
        middle = len(whole) // 2
        flipped = bytes(byte ^ 255 for byte in whole[middle : middle + 40])
        error = (
            rf"^gtsrb: its test split cannot be read \(.+\): .*missing; remove {shard.parent} and"
        )
        for damaged in (whole[:middle] + flipped + whole[middle + 40 :], whole[:middle], b""):
            shard.write_bytes(damaged)
            with pytest.raises(UserError, match=error):
                load_source("gtsrb", "test", folders.data_dir)
        shard.unlink()
        with pytest.raises(UserError, match=error):
            load_source("gtsrb", "test", folders.data_dir)
        shard.write_bytes(whole)
        assert len(load_source("gtsrb", "test", folders.data_dir)) == 6

    def test_files_damaged_or_gone_while_read(self, shard, folders):
        source = load_source("gtsrb", "test", folders.data_dir)
        whole = shard.read_bytes()
        error = rf"^gtsrb: record \d+ cannot be read \(.+\): .*missing; remove {shard.parent} and"
        for damaged in (whole[: len(whole) // 2], b"", None):
            copy = pickle.loads(pickle.dumps(source.images))  # as in a worker
            shard.unlink() if damaged is None else shard.write_bytes(damaged)
            with pytest.raises(UserError, match=error):
                for index in range(6):
                    copy[index]

    @pytest.mark.parametrize("content", [b"{", b'{"name": "\xff"}'])
    def test_damaged_dataset_info(self, shard, folders, content):
        (shard.parent / "dataset_info.json").write_bytes(content)
        text = r"^gtsrb: its dataset_info.json is damaged \(.+\): remove .*/gtsrb and prepare it ag"
        with pytest.raises(UserError, match=text):
            load_source("gtsrb", "test", folders.data_dir)
        with pytest.raises(UserError, match=text):
            known("gtsrb", folders.data_dir)


def test_other_archives_are_refused(folders):
    options = Options(folders.data_dir, folders.manual_dir)
    with pytest.raises(UserError, match=r"GTSRB-Training_fixed.zip is not .*md5.*set repacked"):
        prepare("gtsrb", options)
    packing.zipped(
        folders.manual_dir / "GTSRB-Training_fixed.zip",
        {"GTSRB/Final_Training/Images/00000/00000_00000.ppm": packing.picture(0, kind="PPM")},
    )
    with pytest.raises(UserError, match="contains no GTSRB/Training"):
        prepare("gtsrb", folders)
    for sign in ("stop", "00043"):
        packing.zipped(
            folders.manual_dir / "GTSRB-Training_fixed.zip",
            {f"GTSRB/Training/{sign}/00000.ppm": packing.picture(0, kind="PPM")},
        )
        with pytest.raises(
            UserError, match=f"holds GTSRB/Training/{sign}/00000.ppm, which belongs to no class"
        ):
            prepare("gtsrb", folders)


def test_incomplete_tables_are_refused(folders):
    table = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n99999.ppm;1;1;1;1;1;1;0\n"
    labels = folders.manual_dir / "GTSRB_Final_Test_GT.zip"
    packing.zipped(labels, {"GT-final_test.csv": table.encode()})
    with pytest.raises(UserError, match=r"lacks 99999\.ppm"):
        prepare("gtsrb", folders)
    packing.zipped(labels, {"notes.txt": b""})
    with pytest.raises(UserError, match=r"contains no GT-final_test\.csv"):
        prepare("gtsrb", folders)


def test_damaged_archives_are_refused(folders):
    for name in ("GTSRB-Training_fixed.zip", "GTSRB_Final_Test_Images.zip"):
        archive = folders.manual_dir / name
        whole = archive.read_bytes()
        flipped = bytes(byte ^ 255 for byte in whole[200:240])  # within a picture
        for damaged in (whole[:-100], whole[: len(whole) // 2], b"", b"no zip"):
            archive.write_bytes(damaged)
            with pytest.raises(UserError, match=f"{name} is damaged .*fetch it again"):
                prepare("gtsrb", folders)
        archive.write_bytes(whole[:200] + flipped + whole[240:])
        with pytest.raises(UserError, match=rf"{name} is damaged .*CRC-32.*fetch it again"):
            prepare("gtsrb", folders)
        packing.zipped(archive, {"GTSRB/Training/00000/00000.ppm": b"no picture"})
        if "Training" in name:
            with pytest.raises(UserError, match=f"{name} is damaged .*cannot identify image"):
                prepare("gtsrb", folders)
        archive.write_bytes(whole)
    assert not [p for p in Path(folders.data_dir).rglob("*") if p.is_file()]
    prepare("gtsrb", folders)


@pytest.mark.parametrize(
    "table",
    [
        b"Filename,ClassId\n00000.ppm,1\n",  # with another separator
        b"Filename;Class\n00000.ppm;1\n",
        b"Filename;ClassId\n00000.ppm;stop\n",
        b"Filename;ClassId\n00000.ppm;43\n",
        b"Filename;ClassId\n00000.ppm\n",
        b"\xff\xfe\x00\n\x80;\x81\n",
    ],
)
def test_other_tables_are_refused(folders, table):
    packing.zipped(folders.manual_dir / "GTSRB_Final_Test_GT.zip", {"GT-final_test.csv": table})
    with pytest.raises(UserError, match=r"GTSRB_Final_Test_GT.zip: line 2 .*Filename and ClassId"):
        prepare("gtsrb", folders)


def test_pictures_keep_their_pixels(tmp_path, monkeypatch):
    def noise(label: int, size: int) -> np.ndarray:
        return np.random.default_rng(label).integers(0, 256, (7, 9, 3), np.uint8)

    monkeypatch.setattr(packing, "pixels", noise)
    archives.small("gtsrb", tmp_path / "archives", monkeypatch)
    prepare("gtsrb", Options(str(tmp_path / "data"), tmp_path / "archives", repacked=True))
    archives.readable("gtsrb", monkeypatch)
    source = load_source("gtsrb", "test", str(tmp_path / "data"))
    for image, label in zip(source.images, source.labels, strict=True):
        np.testing.assert_array_equal(image, noise(label, 16))
