"""A folder of images as a source: [train|test/][domain/]class/*."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
    root = _named(data_dir)
    if not is_undivided(root):
        return _read(_part(root, split))
    return _read(root, split)


def load_test_images(data_dir: str | None) -> Source:
    """The images of a folder's test/; all of them if it has neither train/ nor test/.

    Raises:
      UserError: as `load_folder` does.
    """
    root = _named(data_dir)
    return _read(root if is_undivided(root) else _part(root, "test"))


def is_undivided(root: Path) -> bool:
    """Whether a folder contains classes or domains rather than train/ and test/.

    A folder called train that contains images, not folders, is a class.
    """
    if not root.is_dir():
        return False
    parts = [root / split for split in ("train", "test") if (root / split).is_dir()]
    return bool(_folders(root)) and all(_images(part) and not _folders(part) for part in parts)


def holds_images(root: Path) -> bool:
    """Whether a directory has images, in any layout, and does not look like a model or runs.

    Models and runs have a config.json; a run's plots are not data.
    """
    level = [root] if root.is_dir() else []
    for _ in range(4):
        if any(next(folder.glob("*config.json"), None) for folder in level):
            return False
        if any(_images(folder) for folder in level):
            return True
        level = [below for folder in level for below in _folders(folder)]
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
        raise UserError(f"{root}: there is no such folder")
    if not part.is_dir():
        raise UserError(
            f"{part}: there is no such folder; {root} must hold train/ and test/, or a folder of "
            "images for each class"
        )
    return part


def _read(root: Path, split: Split | None = None) -> Source:
    """The images in class/* or domain/class/* under `root`: all, or those held out as `split`."""
    top = _folders(root)
    if not top:
        raise UserError(f"{root}: it contains no folders; expected class/* or domain/class/* in it")
    has_domains = any(_folders(folder) for folder in top)
    leaves = [leaf for folder in top for leaf in (_folders(folder) if has_domains else [folder])]
    if has_domains:
        for folder in top:
            if not _folders(folder) or _images(folder):
                raise UserError(
                    f"{folder}: images lie at two depths under {root}; use either class/* or "
                    "domain/class/* throughout"
                )
    class_names = tuple(sorted({leaf.name for leaf in leaves}))
    domain_names = tuple(folder.name for folder in top) if has_domains else ()
    paths, labels, domains = [], [], []
    for leaf in leaves:
        images = _images(leaf)
        if not images:
            raise UserError(
                f"{printable(leaf)}: it contains no image (.jpg, .png, .webp or another format "
                "that Pillow opens); add some or remove the folder"
            )
        paths += images
        labels += [class_names.index(leaf.name)] * len(images)
        if has_domains:
            domains += [domain_names.index(leaf.parent.name)] * len(images)
    _check_names(paths)
    class_ids, domain_ids = np.array(labels, np.int32), np.array(domains, np.int32)
    if split is not None:
        # By their paths relative to the folder, which are the same on every machine.
        names = [Path(path).relative_to(root).as_posix() for path in paths]
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
        passed_over=frozenset(_images(root)).union(*map(_no_images, leaves)),
    )


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(folder: Path) -> list[str]:
    return [str(folder / name) for name in sorted(os.listdir(folder)) if is_image(name)]


def _no_images(folder: Path) -> list[str]:
    """Files in a class's folder that are neither images nor hidden nor left there by Windows."""
    return [
        str(folder / name)
        for name in os.listdir(folder)
        if not (is_image(name) or name.startswith(".") or name.lower() in LEFT_BY_WINDOWS)
    ]


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
