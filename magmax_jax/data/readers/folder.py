"""A folder of images as a source: [train|test/][domain/]class/*."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from magmax_jax.data.readers.image_suffixes import is_image
from magmax_jax.data.seeded_split import SeededSplit, divide
from magmax_jax.data.source import Shape, Source, Split, one_shape
from magmax_jax.errors import ConfigError, UserError
from magmax_jax.inputs.decode import decode_rgb, open_image, printable, seen_shape

HELD_OUT = SeededSplit()
"""How to divide a folder without train/ and test/: a fifth of each class (and domain) tests."""
LEFT_BY_WINDOWS = {"thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class ImageFiles:
    """Image files, decoded when indexed: images[i] is uint8 (height, width, 3).

    Unlike in torchvision's ImageFolder, which leaves photos sideways and drops transparency, images
    are upright and on white (see `decode_rgb`).
    """

    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.read(index)

    def read(self, index: int, least: int | None = None) -> np.ndarray:
        """uint8 (height, width, 3); `least` as in `decode_rgb`."""
        path = self.paths[index]
        with open_image(path, where := printable(path)) as image:
            return decode_rgb(image, where, least)


class _Listing(NamedTuple):
    """What a directory holds, by name; read in one pass, without a call for each file.

    Attributes:
      folders: except hidden ones, sorted.
      images: paths of names with an image's suffix, sorted.
      others: paths of names that are neither images nor hidden nor left there by Windows.
    """

    folders: list[Path]
    images: list[str]
    others: list[str]


class _Listings(dict[Path, _Listing]):
    """Directories read so far, each once."""

    def __missing__(self, folder: Path) -> _Listing:
        folders, images, others = [], [], []
        prefix = _prefix(folder)
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(folder / name)
                if is_image(name):
                    images.append(prefix + name)
                elif name.lower() not in LEFT_BY_WINDOWS:
                    others.append(prefix + name)
        self[folder] = _Listing(sorted(folders), sorted(images), others)
        return self[folder]


def load_folder(data_dir: str | None, split: Split) -> Source:
    """Reads the images' paths and sizes; classes and domains are numbered in sorted order.

    A folder without train/ and test/ is divided by a hash of its images' names: a fifth of each
    class (and domain) is for testing, whatever the order of the files. Files without an image's
    suffix (`image_suffixes`) are skipped and, unless hidden, listed in the source. A class need not
    occur in every domain.

    Raises:
      UserError: the folder or its images are missing, its depth is mixed, a name is not UTF-8, or a
        header is damaged.
    """
    root, listed = _named(data_dir), _Listings()
    if not _is_undivided(root, listed):
        return _read(_part(root, split), listed)
    return _read(root, listed, split)


def load_test_images(data_dir: str | None) -> Source:
    """The images of a folder's test/; all of them if it has neither train/ nor test/.

    Raises:
      UserError: as `load_folder` does.
    """
    root, listed = _named(data_dir), _Listings()
    return _read(root if _is_undivided(root, listed) else _part(root, "test"), listed)


def is_undivided(root: Path) -> bool:
    """Whether a folder contains classes or domains rather than train/ and test/.

    A folder called train that contains images, not folders, is a class.
    """
    return _is_undivided(root, _Listings())


def holds_images(root: Path) -> bool:
    """Whether a directory has images, in any layout, and does not look like a model or runs.

    Models and runs have a config.json; a run's plots are not data.
    """
    level = [root] if root.is_dir() else []
    for _ in range(4):
        found = [_Listings()[folder] for folder in level]
        if any(name.endswith("config.json") for each in found for name in each.others):
            return False
        if any(each.images for each in found):
            return True
        level = [below for each in found for below in each.folders]
    return False


def image_files(root: Path) -> Iterator[os.DirEntry[str]]:
    """Every image of either split, without opening any.

    Searches only as deep as classes within domains, because links to folders could form cycles.
    """
    tops = [root] if is_undivided(root) else [root / "train", root / "test"]
    level = [str(top) for top in tops if top.is_dir()]
    for _ in range(3):
        below: list[str] = []
        for folder in level:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if is_image(entry.name) and not entry.is_dir():
                        yield entry
                    elif entry.is_dir() and not entry.name.startswith("."):
                        below.append(entry.path)
        level = below


def _is_undivided(root: Path, listed: _Listings) -> bool:
    if not root.is_dir():
        return False
    parts = [root / split for split in ("train", "test") if (root / split).is_dir()]
    return bool(listed[root].folders) and all(
        listed[part].images and not listed[part].folders for part in parts
    )


def _named(data_dir: str | None) -> Path:
    if data_dir is None:
        raise ConfigError(
            "dataset folder needs scenario.data_dir: the folder that holds train/ and test/, or "
            "classes"
        )
    return Path(data_dir).expanduser()


def _part(root: Path, split: Split) -> Path:
    part = root / split
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder: name a folder of images")
    if not part.is_dir():
        raise UserError(
            f"{part}: there is no such folder; {root} must hold train/ and test/, or a folder of "
            "images for each class"
        )
    return part


def _read(root: Path, listed: _Listings, split: Split | None = None) -> Source:
    """The images in class/* or domain/class/* under `root`: all, or those held out as `split`."""
    top = listed[root].folders
    if not top:
        _refuse_parquet(root, listed[root])
        raise UserError(f"{root}: it contains no folders; expected class/* or domain/class/* in it")
    has_domains = any(listed[folder].folders for folder in top)
    leaves = [leaf for each in top for leaf in (listed[each].folders if has_domains else [each])]
    if has_domains:
        for folder in top:
            if not listed[folder].folders or listed[folder].images:
                raise UserError(
                    f"{folder}: images lie at two depths under {root}; use either class/* or "
                    "domain/class/* throughout"
                )
    class_names = tuple(sorted({leaf.name for leaf in leaves}))
    domain_names = tuple(folder.name for folder in top) if has_domains else ()
    class_of = {name: number for number, name in enumerate(class_names)}
    domain_of = {name: number for number, name in enumerate(domain_names)}
    paths: list[str] = []
    labels: list[int] = []
    domains: list[int] = []
    for leaf in leaves:
        images = listed[leaf].images
        if not images:
            _refuse_parquet(leaf, listed[leaf])
            raise UserError(
                f"{printable(leaf)}: it contains no image (.jpg, .png, .webp or another format "
                "that Pillow opens); add some or remove the folder"
            )
        paths += images
        labels += [class_of[leaf.name]] * len(images)
        if has_domains:
            domains += [domain_of[leaf.parent.name]] * len(images)
    _check_names(paths)
    class_ids, domain_ids = np.array(labels, np.int32), np.array(domains, np.int32)
    if split is not None:
        # By their paths relative to the folder, which are the same on every machine.
        start = len(_prefix(root))
        names = [path[start:].replace(os.sep, "/") for path in paths]
        groups = class_ids + domain_ids * len(class_names) if has_domains else class_ids
        rows = divide(names, groups, HELD_OUT)[split]
        paths, class_ids = [paths[row] for row in rows], class_ids[rows]
        domain_ids = domain_ids[rows] if has_domains else domain_ids
    return Source(
        images=ImageFiles(tuple(paths)),
        labels=class_ids,
        class_names=class_names,
        domains=domain_ids if has_domains else None,
        domain_names=domain_names,
        image_shape=common_shape(paths),
        passed_over=frozenset(listed[root].images).union(*(listed[leaf].others for leaf in leaves)),
    )


def _refuse_parquet(folder: Path, listing: _Listing) -> None:
    """Raises a UserError for a data set of the hub whose images are in tables."""
    if any(name.endswith(".parquet") for name in listing.others):
        raise UserError(
            f"{printable(folder)}: it holds parquet files, not images: load them with the package "
            "datasets, and pass the splits to mm.run as train and test"
        )


def _prefix(folder: Path) -> str:
    """What the paths of a directory's files begin with; "" for the working directory."""
    return str(folder / "x")[:-1]


def _check_names(paths: list[str]) -> None:
    """Requires UTF-8: names are hashed, recorded and given to the model as text."""
    for path in paths:
        try:
            path.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{printable(path)}: this path is not UTF-8 (\\xNN stands for such a byte): rename "
                "the file or folder"
            ) from None


def common_shape(paths: list[str]) -> Shape | None:
    """(height, width) if all images share it; reads only headers, up to the first that differs."""
    return one_shape(map(_shape, paths))


def _shape(path: str) -> Shape:
    with open_image(path, printable(path)) as image:
        return seen_shape(image)
