"""Publishers' archives: their names, where they come from, and copies that a user fetched.

TFDS takes a file from its manual folder in place of a download when it has the registered name and
checksum. Here that folder may serve several data sets whose archives have the same names, files
without a registered checksum, and archives that were packed anew.
"""

import contextlib
import json
import lzma
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums, downloader

from magmax_jax.errors import UserError

MODULES = {
    "caltech_birds2011": ("cv2",),
    "cars196": ("scipy",),
    "oxford_flowers102": ("scipy",),
    "patch_camelyon": ("h5py",),
    "sun397": ("cv2",),
    "svhn_cropped": ("scipy",),
}
"""TFDS builder -> what it imports besides TensorFlow, which all of TFDS's need to unpack archives.

`importlib_resources` is TFDS's own, for its lists of checksums; it does not install it.
"""

BY_HAND = {
    "resisc45": ("NWPU-RESISC45",),
    "imagenet2012": ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"),
}
"""TFDS builder -> files or folders that nothing downloads."""

READ_PACKED = ("gtsrb", "sun397", "svhn_cropped")
"""TFDS builders that do not unpack their archives to disk."""

LINKS = {
    "cars196": (
        "Stanford's links have been dead since 2023; the copies told of in "
        "github.com/pytorch/vision/issues/7545 hold loose files: pack them as cars_train.tgz "
        "(cars_train/*.jpg), cars_test.tgz (cars_test/*.jpg) and car_devkit.tgz "
        "(devkit/cars_train_annos.mat), and add --repacked"
    ),
    "sun397": (
        "Princeton's links have been dead since 2025 (github.com/pytorch/vision/issues/9348); "
        "SUN397.tar.gz holds SUN397/a/abbey/*.jpg and so on, Partitions.zip holds Training_01.txt "
        "and Testing_01.txt; with archives packed anew add --repacked"
    ),
    "eurosat": (
        "zenodo.org/records/7711810 has the images, too: pack them as EuroSAT.zip "
        "(2750/CLASS/*.jpg) and add --repacked"
    ),
    "resisc45": (
        "get the archive from gcheng-nwpu.github.io/#Datasets or from "
        "huggingface.co/datasets/torchgeo/resisc45, and unpack it: NWPU-RESISC45/CLASS/*.jpg"
    ),
    "imagenet2012": "register at image-net.org/download-images, which gives the links",
}
"""TFDS builder -> what is known of its publisher's links and of copies elsewhere."""


@dataclass(frozen=True)
class Archive:
    """One file that a builder downloads."""

    url: str
    name: str
    """Under which it is looked for among the files that a user fetched."""
    size: int | None = None
    """Bytes, where TFDS knows them."""


def archives(builder: tfds.core.DatasetBuilder) -> tuple[Archive, ...]:
    """What a builder downloads; () where that is not known beforehand.

    A file that has moved is there twice, with its old address and its new one.
    """
    if builder.name == "gtsrb":
        return tuple(Archive(url, url.split("/")[-1]) for url in builder.urls())
    if builder.name == "domainnet":  # TFDS registers neither names nor checksums of it
        domain, base = builder.builder_config.name, builder._BASE_URL
        lists = (f"domainnet/txt/{domain}_{split}.txt" for split in ("train", "test"))
        files = (builder.builder_config.img_url, *lists)
        return tuple(Archive(f"{base}/{file}", file.split("/")[-1]) for file in files)
    if builder.name in BY_HAND:
        return ()
    known = [
        Archive(url, info.filename or url.split("/")[-1], info.size)
        for url, info in sorted((builder.url_infos or {}).items())
    ]
    if builder.name == "eurosat":  # the other file has thirteen bands, which no picture shows
        known = [a for a in known if a.url == builder.builder_config.download_url]
    return tuple(known)


def by_hand_folder(folder: Path, name: str) -> Path:
    """Where the archives of one data set lie: DIR/NAME if there is one, else DIR.

    Those of mnist, kmnist and fashion_mnist have the same names.
    """
    return folder / name if (folder / name).is_dir() else folder


def use_local(
    builder: tfds.core.DatasetBuilder, folder: Path, repacked: bool
) -> list[tfds.download.DownloadManager]:
    """Makes a builder take the archives that lie in `folder`, and download the others.

    TFDS compares a file with the checksum that it knows. Where it knows none, and for `repacked`
    archives, the file's own takes its place.

    Returns:
      an empty list, to which the builder adds the download manager that it comes to use.
    """
    managers: list[tfds.download.DownloadManager] = []
    if hasattr(builder, "any_archive"):
        builder.any_archive = repacked
    make = builder._make_download_manager

    def make_local(**kwargs: Any) -> tfds.download.DownloadManager:
        manager = make(**kwargs)
        known = dict(manager._url_infos)  # TFDS keeps one table for all managers
        for archive in archives(builder):
            file = folder / archive.name
            if file.is_file() and (repacked or archive.url not in known):
                known[archive.url] = checksums.compute_url_info(file)
        manager._url_infos = known
        # TFDS shares one downloader among managers; this one can be ended where a download fails.
        own = manager._DownloadManager__downloader = downloader._Downloader()
        # Of archives that are there already it would count bytes, among MiB of downloads.
        own.increase_tqdm = lambda url_info: None
        managers.append(manager)
        return manager

    builder._make_download_manager = make_local
    return managers


def require_by_hand(builder: tfds.core.DatasetBuilder, folder: Path) -> None:
    """Checks for what nothing downloads.

    Raises:
      UserError: something is not in `folder`.
    """
    missing = [name for name in BY_HAND.get(builder.name, ()) if not (folder / name).exists()]
    if missing:
        raise UserError(
            f"{builder.name} has to be fetched by hand: {folder} lacks {listed(missing)}; "
            f"{LINKS[builder.name]}, and name its folder with --manual-dir"
        )


def how_to_fetch(builder: tfds.core.DatasetBuilder, folder: Path) -> str:
    """What a user can do where downloading fails: which files, from where, to where."""
    names = sorted({archive.name for archive in archives(builder)})
    links = f"; {LINKS[builder.name]}" if builder.name in LINKS else ""
    return (
        f"try again later, or put {listed(names) if names else 'its files'} into {folder} and run "
        "the same command again; another folder can be named with --manual-dir "
        f"(publisher: {builder.info.homepage}{links})"
    )


def damaged(error: BaseException) -> bool:
    """Whether it is what readers of archives, and of files in them, raise for damaged ones."""
    if isinstance(error, OSError):  # of Pillow, h5py and gzip; the system's have a number
        return error.errno is None and not isinstance(error, (TimeoutError, ConnectionError))
    readers = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError)
    where = error.__traceback__
    while where and where.tb_next:
        where = where.tb_next
    raised_in = where.tb_frame.f_globals.get("__name__", "") if where else ""
    return isinstance(error, readers) or raised_in.startswith(("scipy.io.", "h5py."))


def downloaded(folder: Path) -> set[str]:
    """Addresses of the archives that TFDS has downloaded into a folder."""
    found: set[str] = set()
    for info in folder.rglob("*.INFO"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            found |= set(json.loads(info.read_text())["urls"])
    return found


def listed(words: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
