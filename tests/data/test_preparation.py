"""Preparing data: names, downloads, interruptions, errors.

gtsrb stands in for all data sets, because its builder does not need TensorFlow.
"""

import contextlib
import fcntl
import functools
import http.server
import os
import re
import resource
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from magmax_jax.data import load_source
from magmax_jax.data.prepare import download, gtsrb
from magmax_jax.data.prepare.prepare import Options, known, parts, prepare
from magmax_jax.data.readers import tfds as reading
from magmax_jax.errors import UserError
from tests.data import archives
from tests.data.cases import WHY, uniform
from tests.data.rows import ROWS, prepared_rows


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Options: the archives and where to prepare them."""
    archives.small("gtsrb", tmp_path / "archives", monkeypatch)
    return Options(str(tmp_path / "data"), tmp_path / "archives", repacked=True)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves the folder "site" in place of the publishers; yields the requested paths."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(Path(self.path).name)

    (tmp_path / "site").mkdir()
    handler = functools.partial(Handler, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        monkeypatch.setattr(gtsrb, "_FOLDER", f"http://127.0.0.1:{serving.server_port}/")
        yield asked
        serving.shutdown()


@pytest.fixture
def locked(folders):
    """Locks the folder of gtsrb's archives, as a preparing process does."""

    @contextlib.contextmanager
    def lock():
        folder = Path(folders.data_dir) / "downloads" / "gtsrb"
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield folder
        os.close(handle)

    return lock


def files(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file()]


class TestNames:
    def test_a_name_maps_to_its_builders(self):
        data = ROWS
        assert parts("cars") == parts("cars196") == [("cars196", data["cars"])]
        assert parts("eurosat") == parts("eurosat/rgb") == [("eurosat/rgb", data["eurosat"])]
        assert [name for name, _ in parts("domainnet")] == [
            f"domainnet/{d}"
            for d in ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
        ]
        assert parts("domainnet/real") == [("domainnet/real", data["domainnet"])]
        assert parts("emnist/letters") == [("emnist/letters", None)]
        assert parts("imagenette") == [("imagenette", None)]

    @pytest.mark.parametrize(
        ("name", "builders"),
        [
            ("sun397:4.0.0", ["sun397/standard-part1-120k:4.0.0"]),
            ("emnist:3.1.0", ["emnist/digits:3.1.0"]),
            ("cub200:0.2.0", ["caltech_birds2011:0.2.0"]),
            ("eurosat/rgb:2.0.0", ["eurosat/rgb:2.0.0"]),
            ("domainnet/real:1.0.0", ["domainnet/real:1.0.0"]),
            (
                "domainnet:1.0.0",
                [
                    f"domainnet/{d}:1.0.0"
                    for d in ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
                ],
            ),
        ],
    )
    def test_versions_are_prepared_as_they_are_read(self, name, builders, monkeypatch):
        data = ROWS[name.split(":")[0].split("/")[0]]
        assert parts(name) == [(builder, data) for builder in builders]
        read = []
        monkeypatch.setattr(
            reading, "_load_one", lambda name, *rest: read.append((name, rest[0])) or uniform(1)
        )
        load_source(name, "train")
        assert read == parts(name)

    def test_the_catalogue_is_known_to_tfds(self):
        for row in prepared_rows():
            known(row.name)

    def test_mistakes_are_named(self):
        with pytest.raises(UserError, match=r"'cifar1000'.*choose from cars, cifar10, .*TFDS"):
            known("cifar1000")
        for name, reason in WHY.items():
            with pytest.raises(UserError, match=rf"^no data set '{name}' \({reason}\): choose"):
                known(name)
        for name in ("celeb_a", "lfw"):  # no label, and names as labels
            with pytest.raises(
                UserError,
                match=rf"{name} has the features .* an image and a label of one class are needed",
            ):
                known(name)
        with pytest.raises(UserError, match="digits needs no preparation"):
            known("digits")

    def test_builders_that_cannot_be_imported_are_reported(self, monkeypatch):
        def construct(*_, **__):
            raise ImportError("Failed to construct\nNo module named 'tensorflow'")

        monkeypatch.setattr(download.tfds, "builder", construct)
        with pytest.raises(
            UserError, match=r"coco needs further packages .*tensorflow.*: pip install -r"
        ):
            known("coco")


class TestDownloads:
    @pytest.fixture(autouse=True)
    def published(self, folders, server, tmp_path):
        """Puts the archives on the publishers' site."""
        for file in folders.manual_dir.iterdir():
            shutil.copy(file, tmp_path / "site")

    @pytest.fixture
    def options(self, folders):
        return replace(folders, manual_dir=None)

    def test_finished_archives_are_not_refetched(self, options, server, tmp_path, monkeypatch):
        def interrupt(ppm):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(gtsrb, "_png", interrupt)
            with pytest.raises(KeyboardInterrupt):
                prepare("gtsrb", options)
        data = Path(options.data_dir)
        assert len(server) == 3 and not (data / "gtsrb").exists()
        # A killed process leaves an unfinished data set and an unfinished archive.
        (data / "gtsrb" / "incomplete.ABC_1.0.0").mkdir(parents=True)
        (data / "downloads" / "gtsrb" / "x.zip.tmp.123").mkdir()
        prepare("gtsrb", options)
        assert len(server) == 3
        assert [path.name for path in (data / "gtsrb").iterdir()] == ["1.0.0"]
        kept = files(data / "downloads")
        assert len(kept) == 6 and not list(data.rglob("*.tmp.*"))  # each with its address

    def test_archives_can_be_deleted_after_preparing(self, options):
        prepare("gtsrb", replace(options, keep_archives=False))
        assert not files(Path(options.data_dir) / "downloads")

    def test_archives_that_another_process_may_need_are_kept(self, options, locked):
        prepare("gtsrb", options)
        with locked(), pytest.raises(UserError, match="another process is preparing gtsrb"):
            prepare("gtsrb", replace(options, keep_archives=False))
        assert len(files(Path(options.data_dir) / "downloads")) == 6

    def test_a_dead_link_is_reported_and_other_archives_are_kept(self, options, server, tmp_path):
        (tmp_path / "site" / "GTSRB_Final_Test_GT.zip").rename(tmp_path / "away")
        with pytest.raises(UserError) as raised:
            prepare("gtsrb", options)
        for words in (
            "GTSRB_Final_Test_GT.zip. HTTP code: 404",
            "put GTSRB-Training_fixed.zip, GTSRB_Final_Test_GT.zip and GTSRB_Final_Test_Images.zip",
            f"{options.data_dir}/downloads/manual",
            "publisher: https://benchmark.ini.rub.de/",
        ):
            assert words in str(raised.value)
        assert not (Path(options.data_dir) / "gtsrb").exists()
        assert not list(Path(options.data_dir).rglob("*.tmp.*"))
        by_hand = Path(options.data_dir) / "downloads" / "manual"
        by_hand.mkdir()
        (tmp_path / "away").rename(by_hand / "GTSRB_Final_Test_GT.zip")
        prepare("gtsrb", options)

    def test_a_missing_connection_is_reported(self, options, monkeypatch):
        monkeypatch.setattr(gtsrb, "_FOLDER", "http://127.0.0.1:9/")
        with pytest.raises(UserError, match=r"gtsrb cannot be downloaded \(no connection to 127"):
            prepare("gtsrb", options)

    def test_free_space_is_checked_first(self, options, server, monkeypatch):
        size = 10**12
        urls = [
            replace(archive, size=size)
            for archive in download.archives.archives(download.tfds.builder("gtsrb"))
        ]
        monkeypatch.setattr(download.archives, "archives", lambda builder: urls)
        with pytest.raises(UserError, match=r"at least 3000.0 GB .* free: make room"):
            prepare("gtsrb", options)
        assert not server


@pytest.mark.parametrize(
    ("builder", "files", "known_of_it"),
    [
        ("cars196", ("car_devkit.tgz", "cars_test.tgz"), "dead since 2023; .*set repacked"),
        ("sun397", ("Partitions.zip", "SUN397.tar.gz"), "dead since 2025 .*set repacked"),
        ("caltech_birds2011", ("CUB_200_2011.tgz", "segmentations.tgz"), ""),
    ],
)
def test_known_dead_links_are_reported(builder, files, known_of_it):
    infos = {f"http://there/{file}": SimpleNamespace(filename=file, size=1) for file in files}
    infos |= {url.replace("http:", "https:"): info for url, info in infos.items()}
    page = SimpleNamespace(homepage="http://page")
    builder = SimpleNamespace(name=builder, url_infos=infos, info=page)
    text = download.archives.how_to_fetch(builder, Path("/by/hand"))
    pattern = f"put {' and '.join(files)} into /by/hand and .*publisher: http://page.*{known_of_it}"
    assert re.search(pattern, text)
    assert {archive.url for archive in download.archives.archives(builder)} == set(infos)


class TestFolders:
    def test_archives_may_be_in_a_folder_of_their_name(self, folders):
        (folders.manual_dir / "gtsrb").mkdir()
        for file in files(folders.manual_dir):
            file.rename(folders.manual_dir / "gtsrb" / file.name)
        prepare("gtsrb", folders)

    def test_mistakes_are_named(self, folders):
        with pytest.raises(UserError, match=r"manual_dir .*nowhere: there is no such folder"):
            prepare("gtsrb", replace(folders, manual_dir=folders.manual_dir / "nowhere"))
        with pytest.raises(UserError, match=r"is not prepared in .*; prepare it") as raised:
            prepare("gtsrb", replace(folders, verify=True))
        assert raised.value.command == ("prepare", "gtsrb", "--data-dir", folders.data_dir)
        assert not files(folders.data_dir)

    def test_archives_to_download_by_hand_are_reported(self, folders, monkeypatch):
        monkeypatch.setattr(download, "_require_modules", lambda builder: None)
        with pytest.raises(UserError, match=r"resisc45 .*lacks NWPU-RESISC45; .*manual_dir"):
            prepare("resisc45", folders)
        with pytest.raises(UserError, match=r"lacks ILSVRC2012_img_train.tar and .*register"):
            prepare("imagenet", folders)

    def test_one_process_at_a_time(self, folders, locked):
        noted = Path(folders.data_dir) / "gtsrb" / ".config"  # the holder's files so far
        noted.mkdir(parents=True)
        with locked() as folder:
            for _ in range(2):
                with pytest.raises(UserError, match="another process is preparing gtsrb"):
                    prepare("gtsrb", folders)
            assert folder.is_dir() and noted.is_dir()  # only the holder cleans up
        prepare("gtsrb", folders)
        assert not folder.exists()

    def test_a_removed_folder_is_created_again(self, folders, monkeypatch):
        folder = Path(folders.data_dir) / "downloads" / "gtsrb"
        gone = []

        def remove_first(handle, how):
            if not gone:
                gone.append(folder)
                folder.rmdir()

        monkeypatch.setattr(download.fcntl, "flock", remove_first)
        prepare("gtsrb", folders)
        assert gone

    def test_missing_packages_are_named(self, folders, monkeypatch):
        monkeypatch.setattr(download.importlib.util, "find_spec", lambda module: None)
        needed = r"svhn_cropped needs tensorflow, importlib_resources and scipy to be prepared .*"
        with pytest.raises(UserError, match=needed + r": pip install -r requirements-prepare.txt"):
            prepare("svhn", folders)
        assert not Path(folders.data_dir).exists()


def test_a_full_disk_is_reported_also_by_native_code(folders):
    """array_record's writer raises RuntimeErrors."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        with pytest.raises(UserError, match=r"File too large in .*data: pass another data_dir"):
            prepare("gtsrb", folders)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (Path(folders.data_dir) / "gtsrb").exists() or not any(
        (Path(folders.data_dir) / "gtsrb").iterdir()
    )


def test_the_next_command_removes_what_a_process_killed_at_the_end_left_unpacked(folders):
    prepare("gtsrb", folders)
    left = Path(folders.data_dir, "downloads", "gtsrb", "extracted", "ZIP.a", "picture.ppm")
    left.parent.mkdir(parents=True)
    left.touch()
    note = Path(folders.data_dir, "gtsrb", ".config", "incomplete.0a1b.metadata.json")
    note.parent.mkdir(exist_ok=True)
    note.touch()
    prepare("gtsrb", replace(folders, verify=True))
    assert left.exists() and note.exists()  # it only looks
    prepare("gtsrb", folders)
    assert not Path(folders.data_dir, "downloads").exists() and not note.exists()
