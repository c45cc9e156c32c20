"""Small archives in the layouts of data sets published as arrays.

Every function writes one data set's archives and returns its images by TFDS split.
"""

import gzip
import io
from pathlib import Path

import numpy as np

from tests.data.packing import (
    GREYS,
    TEST,
    TRAIN,
    counts,
    matlab,
    members,
    named,
    pixels,
    tar,
    zipped,
)


def cifar10(folder: Path) -> dict[str, int]:
    def batch(per_class: int) -> bytes:
        return b"".join(
            bytes([label]) + pixels(label, 32).transpose(2, 0, 1).tobytes()
            for label, _ in members(per_class)
        )

    files = {f"data_batch_{i}.bin": batch(1) for i in range(1, 6)}
    files |= {"test_batch.bin": batch(TEST), "batches.meta.txt": named(10)}
    tar(
        folder / "cifar-10-binary.tar.gz",
        {f"cifar-10-batches-bin/{n}": b for n, b in files.items()},
    )
    return counts(train=TRAIN, test=TEST)


def cifar100(folder: Path) -> dict[str, int]:
    def batch(per_class: int) -> bytes:
        return b"".join(
            bytes([0, label]) + pixels(label, 32).transpose(2, 0, 1).tobytes()
            for label, _ in members(per_class)
        )

    files = {"train.bin": batch(TRAIN), "test.bin": batch(TEST)}
    files |= {"coarse_label_names.txt": named(20), "fine_label_names.txt": named(100)}
    tar(folder / "cifar-100-binary.tar.gz", {f"cifar-100-binary/{n}": b for n, b in files.items()})
    return counts(train=TRAIN, test=TEST)


def idx(prefix: str = "", test: str = "t10k") -> dict[str, bytes]:
    """The four files of MNIST and similar data sets."""
    files = {}
    for split, per_class in (("train", TRAIN), (test, TEST)):
        labels = [label for label, _ in members(per_class)]
        images = b"".join(bytes([GREYS[label]]) * 28 * 28 for label in labels)
        files[f"{prefix}{split}-images-idx3-ubyte.gz"] = gzip.compress(bytes(16) + images)
        files[f"{prefix}{split}-labels-idx1-ubyte.gz"] = gzip.compress(bytes(8) + bytes(labels))
    return files


def mnist(folder: Path) -> dict[str, int]:
    for name, content in idx().items():
        (folder / name).write_bytes(content)
    return counts(train=TRAIN, test=TEST)


def emnist(folder: Path) -> dict[str, int]:
    zipped(folder / "gzip.zip", {f"gzip/{n}": b for n, b in idx("emnist-digits-", "test").items()})
    return counts(train=TRAIN, test=TEST)


def svhn(folder: Path) -> dict[str, int]:
    for split, per_class in (("train", TRAIN), ("test", TEST), ("extra", 1)):
        labels = [label for label, _ in members(per_class)]
        images = np.stack([pixels(label, 32) for label in labels], axis=-1)
        marked = np.array([[label or 10] for label in labels])  # the digit 0 is stored as 10
        (folder / f"{split}_32x32.mat").write_bytes(matlab(X=images, y=marked))
    return counts(train=TRAIN, test=TEST, extra=1)


def stl10(folder: Path) -> dict[str, int]:
    files = {"class_names.txt": named(10)}
    for split, per_class in (("train", TRAIN), ("test", TEST), ("unlabeled", 1)):
        labels = [label for label, _ in members(per_class)]
        files[f"{split}_X.bin"] = b"".join(
            pixels(k, 96).transpose(2, 1, 0).tobytes() for k in labels
        )
        files[f"{split}_y.bin"] = bytes(label + 1 for label in labels)
    del files["unlabeled_y.bin"]
    tar(folder / "stl10_binary.tar.gz", {f"stl10_binary/{n}": b for n, b in files.items()})
    return counts(train=TRAIN, test=TEST, unlabelled=1)


def pcam(folder: Path) -> dict[str, int]:
    import h5py

    for split, per_class in (("train", TRAIN), ("valid", TEST), ("test", TEST)):
        labels = np.array([label for label, _ in members(per_class) if label < 2])
        images = np.stack([pixels(label, 96) for label in labels])
        for key, values in (("x", images), ("y", labels.reshape(-1, 1, 1, 1))):
            buffer = io.BytesIO()
            with h5py.File(buffer, "w") as file:
                file[key] = values
            packed = gzip.compress(buffer.getvalue())
            (folder / f"camelyonpatch_level_2_split_{split}_{key}.h5.gz").write_bytes(packed)
    return {"train": 2 * TRAIN, "validation": 2 * TEST, "test": 2 * TEST}
