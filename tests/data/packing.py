"""Images of three classes, one colour per class, and the file formats of publishers."""

import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

CLASSES = 3
TRAIN, TEST = 5, 2  # images per class
COLOURS = np.array([[40, 200, 90], [100, 140, 90], [160, 80, 90]], np.uint8)
GREYS = np.array([40, 100, 160], np.uint8)


def members(per_class: int) -> Iterator[tuple[int, int]]:
    """(label, number) of every image, classes taking turns."""
    return ((label, i) for i in range(per_class) for label in range(CLASSES))


def pixels(label: int, size: int) -> np.ndarray:
    return np.broadcast_to(COLOURS[label], (size, size, 3))


def picture(label: int, size: int = 16, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels(label, size))).save(buffer, kind)
    return buffer.getvalue()


def grey(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (16, 16), value).save(buffer, "PNG")
    return buffer.getvalue()


def tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as opened:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))


def zipped(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in files.items():
            opened.writestr(name, content)


def matlab(**values: object) -> bytes:
    import scipy.io

    buffer = io.BytesIO()
    scipy.io.savemat(buffer, values)
    return buffer.getvalue()


def names(builder: str) -> list[str]:
    """A builder's first class names."""
    return tfds.builder(builder).info.features["label"].names[:CLASSES]


def named(number: int) -> bytes:
    return "".join(f"class{i}\n" for i in range(number)).encode()


def counts(**per_class: int) -> dict[str, int]:
    return {split: CLASSES * number for split, number in per_class.items()}
