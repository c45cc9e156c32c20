"""Which files of an image folder are read or skipped, and unusable names."""

import io
import os
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from magmax_jax.config import ScenarioConfig
from magmax_jax.data import load_source
from magmax_jax.data.readers import folder
from magmax_jax.data.readers.folder import image_files
from magmax_jax.data.readers.image_suffixes import image_suffixes
from magmax_jax.errors import UserError
from magmax_jax.scenarios import build_scenario
from magmax_jax.scenarios.build import build_test_scenario

PIXELS = np.full((4, 4, 3), 100, np.uint8)


def write(path, kind="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS).save(path, kind)


def test_every_image_suffix_that_pillow_opens_is_read(tmp_path):
    kinds = {
        "JPEG": ("jpg", "JPEG", "jfif", "jpe"),
        "PNG": ("png", "apng"),
        "AVIF": ("avif",),
        "WEBP": ("WebP",),
        "TIFF": ("tif", "TIFF"),
        "JPEG2000": ("jp2", "j2k"),
        "GIF": ("gif",),
        "BMP": ("bmp",),
        "PPM": ("ppm", "pnm"),
        "TGA": ("tga",),
        "MPO": ("mpo",),
    }
    names = [f"{suffix}.{suffix}" for suffixes in kinds.values() for suffix in suffixes]
    for kind, suffixes in kinds.items():
        for suffix in suffixes:
            write(tmp_path / "test" / "cat" / f"{suffix}.{suffix}", kind)
    source = load_source("folder", "test", str(tmp_path))
    assert sorted(os.path.basename(path) for path in source.images.paths) == sorted(names)
    assert not source.passed_over and source.image_shape == (4, 4)
    for image in source.images:
        np.testing.assert_allclose(image, PIXELS, rtol=0, atol=2)


def test_formats_that_are_not_images_or_run_programs_are_not_read():
    assert not image_suffixes() & {".eps", ".ps", ".pdf", ".mpg", ".h5", ".hdf", ".fits", ".wmf"}


def test_skipped_files_are_noted_once(tmp_path):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            write(tmp_path / split / name / "0.png")
    cat = tmp_path / "train" / "cat"
    for name in ("a.txt", "b.TXT", "c.heic", "README", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (cat / name).write_text("no image")
    write(cat / ".ipynb_checkpoints" / "0.png")
    write(tmp_path / "train" / "stray.png")
    (tmp_path / "train" / "labels.csv").write_text("beside the classes, as it should be")
    config = ScenarioConfig(dataset="folder", data_dir=str(tmp_path), num_tasks=2)
    (note,) = build_scenario(config, 5).notes
    assert note == (
        "skipped in image folders: 2 .txt, 1 .heic, 1 .png outside the class folders, 1 without a "
        "suffix; only files in class folders with the suffix of an image format that Pillow opens "
        "are read"
    )
    assert not build_test_scenario(config, 5).notes  # whose folders hold only images


def test_an_undivided_folder_is_counted_once(tmp_path):
    for name in ("cat", "dog"):
        for number in range(5):
            write(tmp_path / name / f"{number}.png")
        (tmp_path / name / "notes.md").write_text("")
    config = ScenarioConfig(dataset="folder", data_dir=str(tmp_path), num_tasks=2)
    _, note = build_scenario(config, 5).notes
    assert note.startswith("skipped in image folders: 2 .md; ")


def test_folders_inside_class_folders_are_skipped(tmp_path):
    write(tmp_path / "test" / "photo" / "cat" / "0.png")
    write(tmp_path / "test" / "photo" / "cat" / "more" / "1.png")
    config = ScenarioConfig(dataset="folder", data_dir=str(tmp_path), num_tasks=1)
    (note,) = build_test_scenario(config, 5).notes
    assert note.startswith("skipped in image folders: 1 folder; ")


def test_circular_links_are_not_followed(tmp_path):
    for name in ("cat", "dog"):
        write(tmp_path / "train" / "photo" / name / "0.png")
        (tmp_path / "train" / "photo" / name / "all").symlink_to(tmp_path / "train")
    assert sorted(file.path for file in image_files(tmp_path)) == [
        str(tmp_path / "train" / "photo" / name / "0.png") for name in ("cat", "dog")
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="others have no such names")
@pytest.mark.parametrize("name", [b"test/cat/caf\xe9.png", b"test/caf\xe9/0.png"])
def test_names_that_are_not_utf8_are_printable(tmp_path, name):
    path = os.fsencode(tmp_path / "0.png")
    write(tmp_path / "0.png")
    target = os.path.join(os.fsencode(tmp_path), name)
    os.makedirs(os.path.dirname(target))
    os.rename(path, target)
    with pytest.raises(UserError, match=r"caf\\xe9.*: this path is not UTF-8 .*: rename") as raised:
        load_source("folder", "test", str(tmp_path))
    str(raised.value).encode()  # it can be printed


def test_every_directory_is_listed_once_and_no_file_is_looked_at(tmp_path, monkeypatch):
    """However many images it holds; only their headers are read, up to the first other shape."""
    for leaf in ("train/cat", "train/dog", "test/cat"):
        (tmp_path / leaf).mkdir(parents=True)
        for number in range(50):
            (tmp_path / leaf / f"{number}.png").touch()
    listed, looked_at = Counter(), []
    scandir, stat = os.scandir, os.stat
    monkeypatch.setattr(os, "scandir", lambda path: listed.update([str(path)]) or scandir(path))
    monkeypatch.setattr(
        os, "stat", lambda path, **how: looked_at.append(str(path)) or stat(path, **how)
    )
    monkeypatch.setattr(folder, "common_shape", lambda paths: None)
    source = folder.load_folder(str(tmp_path), "train")
    assert len(source) == 100 and source.class_names == ("cat", "dog")
    train = tmp_path / "train"
    # One that is called train and holds images would be a class, hence test/ is looked into too.
    assert listed == dict.fromkeys(map(str, (tmp_path, train, train / "cat", train / "dog")), 1)
    assert not [path for path in looked_at if path.endswith(".png")]


def test_a_format_that_runs_programs_is_not_opened_under_another_suffix(tmp_path, monkeypatch):
    """Pillow would start Ghostscript for a picture in PostScript, whatever its file is called."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", None)  # so that a failure is an error
    (tmp_path / "cat").mkdir()
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "EPS")
    (tmp_path / "cat" / "a.png").write_bytes(buffer.getvalue())
    with pytest.raises(
        UserError, match=r"a\.png: not a readable image \(not an image format that Pillow kn"
    ):
        folder.load_test_images(str(tmp_path))
