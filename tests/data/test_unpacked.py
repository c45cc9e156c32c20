"""Archives that no checksum vouches for: names that lead out, and sizes, before unpacking."""

import bz2
import gzip
import os
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from magmax_jax.data.prepare import unpacked
from magmax_jax.data.prepare.prepare import Options, prepare
from magmax_jax.data.prepare.unpacked import unpacked_size
from magmax_jax.errors import UserError
from tests.data import archives, packing

FILES = {"a/one.txt": b"x" * 5_000, "a/two.txt": b"y" * 100}
ON_DISK = 3 * unpacked.BLOCK  # in whole blocks


@pytest.fixture
def memory(monkeypatch):
    """Sets the size of this machine's memory in bytes."""
    known = {"SC_PHYS_PAGES": 1}
    monkeypatch.setattr(os, "sysconf", lambda name: known.get(name, 1))
    return lambda size: known.update(SC_PHYS_PAGES=size)


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tgz"])
def test_sizes_are_of_whole_blocks(tmp_path, name):
    pack = packing.zipped if name.endswith("zip") else packing.tar
    pack(tmp_path / name, FILES)
    assert unpacked_size(tmp_path / name, 10**6) == ON_DISK
    with pytest.raises(UserError, match=r"x\.\w+(\.gz)? unpacks to more than the 0\.0 GB .* free"):
        unpacked_size(tmp_path / name, ON_DISK - 1)


@pytest.mark.parametrize(("name", "pack"), [("x.gz", gzip.compress), ("x.bz2", bz2.compress)])
def test_sizes_of_single_files(tmp_path, name, pack):
    (tmp_path / name).write_bytes(pack(b"x" * 5_000))
    assert unpacked_size(tmp_path / name) == 2 * unpacked.BLOCK
    (tmp_path / "x.mat").write_bytes(b"x" * 5_000)
    assert unpacked_size(tmp_path / "x.mat") == 2 * unpacked.BLOCK


@pytest.mark.parametrize("name", ["../one.txt", "a/../../one.txt", "/one.txt", ".."])
@pytest.mark.parametrize("kind", ["x.zip", "x.tar", "x.tar.gz"])
def test_names_that_lead_out_are_refused(tmp_path, kind, name):
    pack = packing.zipped if kind == "x.zip" else packing.tar
    pack(tmp_path / kind, FILES | {name: b""})
    with pytest.raises(UserError, match=r"holds '.+', which leads out of the directory"):
        unpacked_size(tmp_path / kind)
    pack(tmp_path / kind, {"./a/../one.txt": b"", "a..b": b""})
    unpacked_size(tmp_path / kind)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "x.tar", "w") as opened:
        info = tarfile.TarInfo("a/link")
        info.type, info.linkname = kind, "one.txt"
        opened.addfile(info)
    with pytest.raises(UserError, match=r"holds 'a/link', a link to 'one.txt': pack it again"):
        unpacked_size(tmp_path / "x.tar")


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz", "x.tar", "x.gz", "x.bz2"])
def test_members_larger_than_memory_are_refused(tmp_path, memory, name):
    content = b"x" * 5_000
    if name in ("x.gz", "x.bz2"):
        (tmp_path / name).write_bytes({"x.gz": gzip, "x.bz2": bz2}[name].compress(content))
    else:
        pack = packing.zipped if name == "x.zip" else packing.tar
        pack(tmp_path / name, {"one.txt": content})
    memory(5_000)
    unpacked_size(tmp_path / name)
    memory(4_999)
    with pytest.raises(UserError, match=r"holds ('one.txt'|a file) of over .*memory of this"):
        unpacked_size(tmp_path / name)


@pytest.mark.parametrize("declared", [10, 9_000])
def test_members_of_another_size_than_declared_are_refused(tmp_path, declared):
    file = tmp_path / "x.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("one.txt", b"x" * 5_000)
    true, other = struct.pack("<L", 5_000), struct.pack("<L", declared)
    file.write_bytes(file.read_bytes().replace(true, other))
    with pytest.raises(UserError, match=rf"'one.txt' has not the {declared} bytes that it decl"):
        unpacked_size(file)


@pytest.mark.parametrize("name", ["x.gz", "x.zip", "x.tar.gz"])
def test_reading_stops_once_the_limit_is_passed(tmp_path, memory, monkeypatch, name):
    """However much is left: of 64 pieces at most three are read."""
    content = bytes(64 * unpacked.CHUNK)
    if name == "x.gz":
        (tmp_path / name).write_bytes(gzip.compress(content))
    elif name == "x.zip":
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as opened:
            opened.writestr("zeros", content)
    else:
        packing.tar(tmp_path / name, {"zeros": content})
    read = []
    whole = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, n=-1: read.append(n) or whole(self, n))
    memory(unpacked.CHUNK)
    with pytest.raises(UserError, match="memory of this machine"):
        unpacked_size(tmp_path / name)
    assert -1 not in read and sum(read) <= 3 * unpacked.CHUNK


def test_a_zip_that_cannot_be_read_piecewise_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_BZIP2) as opened:
        opened.writestr("one.txt", b"x")
    with pytest.raises(UserError, match=r"'one.txt', which is not compressed by deflate: pack it"):
        unpacked_size(tmp_path / "x.zip")


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.gz", "x.bz2"])
def test_damaged_archives_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"no archive" * 100)
    with pytest.raises(UserError, match=rf"{name} is damaged or not the publishers' \(.+fetch it"):
        unpacked_size(tmp_path / name)


class TestGtsrb:
    """Our own builder, which needs no TensorFlow."""

    @pytest.fixture
    def options(self, tmp_path, monkeypatch):
        archives.small("gtsrb", tmp_path / "archives", monkeypatch)
        yield Options(str(tmp_path / "data"), tmp_path / "archives", repacked=True)
        assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
        assert sorted(os.listdir(tmp_path)) == ["archives"] or os.listdir(tmp_path / "data") == []

    def test_an_archive_with_a_name_that_leads_out_prepares_nothing(self, options):
        with zipfile.ZipFile(options.manual_dir / "GTSRB-Training_fixed.zip", "a") as opened:
            opened.writestr("../GTSRB/Training/00000/1.ppm", packing.picture(0, kind="PPM"))
        with pytest.raises(UserError, match=r"fixed.zip holds '../GTSRB.* leads out"):
            prepare("gtsrb", options)

    def test_pictures_of_another_format_are_not_opened(self, options):
        """Pillow would start Ghostscript for some."""
        packing.zipped(
            options.manual_dir / "GTSRB-Training_fixed.zip",
            {"GTSRB/Training/00000/00000.ppm": packing.picture(0, kind="JPEG")},
        )
        with pytest.raises(UserError, match=r"fixed.zip is damaged .*cannot identify image"):
            prepare("gtsrb", options)

    def test_a_picture_that_declares_too_many_pixels_is_refused(self, options):
        picture = b"P6 100000 100000 255 " + np.zeros(30, np.uint8).tobytes()
        packing.zipped(
            options.manual_dir / "GTSRB-Training_fixed.zip",
            {"GTSRB/Training/00000/00000.ppm": picture},
        )
        with pytest.raises(UserError, match=r"fixed.zip is damaged .*exceeds limit"):
            prepare("gtsrb", options)
