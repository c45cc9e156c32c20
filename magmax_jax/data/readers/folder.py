"""A folder of images as a source: {train,test}/class/* or {train,test}/domain/class/*."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from magmax_jax.data.source import Source, Split
from magmax_jax.errors import UserError
from magmax_jax.inputs.decode import decode_rgb

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}


@dataclass(frozen=True)
class ImageFiles:
    """Image files, decoded when indexed: images[i] is uint8 (height, width, 3).

    Pixels are taken as stored: like torchvision's ImageFolder, a rotation in EXIF is not applied.
    """

    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.read(index)

    def read(self, index: int, least: int | None = None) -> np.ndarray:
        """uint8 (height, width, 3); `least` is `decode_rgb`'s."""
        with _open(self.paths[index]) as image:
            return decode_rgb(image, self.paths[index], least)


def load_folder(data_dir: str | None, split: Split) -> Source:
    """Reads the images' paths and sizes; classes and domains are numbered in sorted order.

    Files without an image's suffix and hidden ones are passed over. A class need not occur in
    every domain.

    Raises:
      UserError: the folder or its images are missing, its depth is mixed, or a header is damaged.
    """
    if data_dir is None:
        raise UserError("dataset folder needs data_dir: the folder that holds train/ and test/")
    root = Path(data_dir) / split
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; data_dir must hold train/ and test/")
    top = _folders(root)
    if not top:
        raise UserError(f"{root}: it holds no folders; expected class/* or domain/class/* in it")
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
            known = ", ".join(sorted(SUFFIXES))
            raise UserError(f"{leaf}: it holds no image ({known}); add some or remove the folder")
        paths += images
        labels += [class_names.index(leaf.name)] * len(images)
        if has_domains:
            domains += [domain_names.index(leaf.parent.name)] * len(images)
    return Source(
        images=ImageFiles(tuple(paths)),
        labels=np.array(labels, np.int32),
        class_names=class_names,
        domains=np.array(domains, np.int32) if has_domains else None,
        domain_names=domain_names,
        image_shape=common_shape(paths),
    )


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(folder: Path) -> list[str]:
    names = sorted(os.listdir(folder))
    return [
        str(folder / name)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
    ]


def _open(path: str) -> Image.Image:
    try:
        return Image.open(path)
    except OSError as error:
        raise UserError(f"{path}: not a readable image ({error}); replace or remove it") from None


def common_shape(paths: list[str]) -> tuple[int, int] | None:
    """(height, width) if all images share it; reads headers alone, up to the first odd one."""
    common = None
    for path in paths:
        with _open(path) as image:
            width, height = image.size
        if common not in (None, (height, width)):
            return None
        common = (height, width)
    return common
