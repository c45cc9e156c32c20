"""Small archives in the publishers' own layouts: three classes, each in a colour of its own.

Every function writes one data set's archives into a folder and returns its images by TFDS split.
"""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from magmax_jax.data import catalogue

CLASSES = 3
TRAIN, TEST = 5, 2  # images of a class
COLOURS = np.array([[40, 200, 90], [100, 140, 90], [160, 80, 90]], np.uint8)
GREYS = np.array([40, 100, 160], np.uint8)

Layout = Callable[[Path], dict[str, int]]


def members(per_class: int) -> Iterator[tuple[int, int]]:
    """(label, number) of every image, classes taking turns."""
    return ((label, i) for i in range(per_class) for label in range(CLASSES))


def pixels(label: int, size: int) -> np.ndarray:
    return np.broadcast_to(COLOURS[label], (size, size, 3))


def picture(label: int, size: int = 16, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels(label, size))).save(buffer, kind)
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


def counts(**per_class: int) -> dict[str, int]:
    return {split: CLASSES * number for split, number in per_class.items()}


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


def named(number: int) -> bytes:
    return "".join(f"class{i}\n" for i in range(number)).encode()


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
    """The four files of MNIST and its relatives."""
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
        marked = np.array([[label or 10] for label in labels])  # the digit 0 is written 10
        (folder / f"{split}_32x32.mat").write_bytes(matlab(X=images, y=marked))
    return counts(train=TRAIN, test=TEST, extra=1)


def eurosat(folder: Path) -> dict[str, int]:
    classes = names("eurosat/rgb")
    files = {f"2750/{classes[k]}/{classes[k]}_{i}.jpg": picture(k, 64) for k, i in members(TRAIN)}
    zipped(folder / "EuroSAT.zip", files)
    return counts(train=TRAIN)


def resisc45(folder: Path) -> dict[str, int]:
    classes = names("resisc45")
    for label, i in members(TRAIN):
        path = folder / "NWPU-RESISC45" / classes[label] / f"{classes[label]}_{i:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(label, 256))
    return counts(train=TRAIN)


def dtd(folder: Path) -> dict[str, int]:
    classes, files = names("dtd"), {}
    for split, per_class in (("train1", TRAIN), ("val1", TEST), ("test1", TEST)):
        lines = [f"{classes[k]}/{classes[k]}_{split}_{i}.jpg" for k, i in members(per_class)]
        files[f"dtd/labels/{split}.txt"] = "\n".join(lines).encode()
        for line, (label, _) in zip(lines, members(per_class), strict=True):
            files[f"dtd/images/{line}"] = picture(label)
    tar(folder / "dtd-r1.0.1.tar.gz", files)
    return counts(train=TRAIN, validation=TEST, test=TEST)


def food101(folder: Path) -> dict[str, int]:
    classes, files = names("food101"), {}
    for split, per_class in (("train", TRAIN), ("test", TEST)):
        table = {name: [f"{name}/{split}{i}" for i in range(per_class)] for name in classes}
        files[f"food-101/meta/{split}.json"] = json.dumps(table).encode()
        for label, i in members(per_class):
            files[f"food-101/images/{classes[label]}/{split}{i}.jpg"] = picture(label)
    tar(folder / "food-101.tar.gz", files)
    return counts(train=TRAIN, validation=TEST)


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


def cub200(folder: Path) -> dict[str, int]:
    images, masks, tables = {}, {}, {"images": [], "train_test_split": [], "bounding_boxes": []}
    for number, (label, i) in enumerate(members(TRAIN + TEST), start=1):
        bird = f"{label + 1:03}.Some_Bird/Some_Bird_{label}_{i:04}"
        images[f"CUB_200_2011/images/{bird}.jpg"] = picture(label)
        masks[f"segmentations/{bird}.png"] = grey(9)
        tables["images"].append(f"{number} {bird}.jpg")
        tables["train_test_split"].append(f"{number} {int(i < TRAIN)}")
        tables["bounding_boxes"].append(f"{number} 1.0 2.0 8.0 9.0")
    lists = {f"CUB_200_2011/{n}.txt": "\n".join(t).encode() for n, t in tables.items()}
    tar(folder / "CUB_200_2011.tgz", lists | images)
    tar(folder / "segmentations.tgz", masks)
    return counts(train=TRAIN, test=TEST)


def grey(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (16, 16), value).save(buffer, "PNG")
    return buffer.getvalue()


def cars(folder: Path) -> dict[str, int]:
    kinds = [(f"bbox_{v}", object) for v in ("x1", "y1", "x2", "y2")]
    kinds += [("class", object), ("fname", object)]

    def annotations(per_class: int) -> bytes:
        rows = [(1, 1, 9, 9, k + 1, f"{k}{i:04}.jpg") for k, i in members(per_class)]
        return matlab(annotations=np.array([rows], dtype=kinds))

    for split, per_class in (("train", TRAIN), ("test", TEST)):
        files = {f"cars_{split}/{k}{i:04}.jpg": picture(k) for k, i in members(per_class)}
        tar(folder / f"cars_{split}.tgz", files)
    tar(folder / "car_devkit.tgz", {"devkit/cars_train_annos.mat": annotations(TRAIN)})
    (folder / "cars_test_annos_withlabels.mat").write_bytes(annotations(TEST))
    return counts(train=TRAIN, test=TEST)


def imagenet_r(folder: Path) -> dict[str, int]:
    classes = names("imagenet_r")
    files = {f"imagenet-r/{classes[k]}/art_{i}.jpg": picture(k) for k, i in members(TRAIN)}
    tar(folder / "imagenet-r.tar", files | {"imagenet-r/README.txt": b"renditions"})
    return counts(test=TRAIN)


def domainnet(folder: Path) -> dict[str, int]:
    classes = names("domainnet/real")
    for domain in ("clipart", "infograph", "painting", "quickdraw", "real", "sketch"):
        files = {}
        for split, per_class in (("train", TRAIN), ("test", TEST)):
            lines = []
            for label, i in members(per_class):
                name = f"{domain}/{classes[label]}/{domain}_{split}_{i}.jpg"
                files[name] = picture(label)
                lines.append(f"{name} {label}\n")
            (folder / f"{domain}_{split}.txt").write_text("".join(lines))
        zipped(folder / f"{domain}.zip", files)
    return counts(train=TRAIN, test=TEST)


def sun397(folder: Path) -> dict[str, int]:
    classes, images, lists = names("sun397/standard-part1-120k"), {}, {}
    for split, per_class in (("Training", TRAIN), ("Testing", TEST)):
        lines = [f"{classes[k]}/sun_{split}{i}.jpg" for k, i in members(per_class)]
        lists[f"{split}_01.txt"] = "\n".join(lines).encode()
        for line, (label, _) in zip(lines, members(per_class), strict=True):
            images[f"SUN397{line}"] = picture(label)
    tar(folder / "SUN397.tar.gz", images)
    zipped(folder / "Partitions.zip", lists)
    return counts(train=TRAIN, test=TEST)


def flowers102(folder: Path) -> dict[str, int]:
    labels = [label for label, _ in members(TRAIN + 2 * TEST)]
    files = {f"jpg/image_{n:05}.jpg": picture(label) for n, label in enumerate(labels, start=1)}
    tar(folder / "102flowers.tgz", files)
    (folder / "imagelabels.mat").write_bytes(matlab(labels=np.array([labels]) + 1))
    ids = np.split(np.arange(len(labels)) + 1, [CLASSES * TRAIN, CLASSES * (TRAIN + TEST)])
    sets = {name: part[None] for name, part in zip(("trnid", "valid", "tstid"), ids, strict=True)}
    (folder / "setid.mat").write_bytes(matlab(**sets))
    return counts(train=TRAIN, validation=TEST, test=TEST)


def pets(folder: Path) -> dict[str, int]:
    box = "<size><width>16</width><height>16</height></size><object><bndbox><xmin>1</xmin>"
    box += "<ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
    images, notes = {}, {}
    for split, per_class in (("trainval", TRAIN), ("test", TEST)):
        lines = []
        for label, i in members(per_class):
            pet = f"Pet{label}_{split}_{i}"
            images[f"images/{pet}.jpg"] = picture(label)
            notes[f"annotations/trimaps/{pet}.png"] = grey(1)
            if split == "trainval":
                notes[f"annotations/xmls/{pet}.xml"] = f"<annotation>{box}</annotation>".encode()
            lines.append(f"{pet} {label + 1} 1 1")
        notes[f"annotations/{split}.txt"] = "\n".join(lines).encode()
    tar(folder / "images.tar.gz", images)
    tar(folder / "annotations.tar.gz", notes)
    return counts(train=TRAIN, test=TEST)


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


def imagenet(folder: Path) -> dict[str, int]:
    classes = names("imagenet2012")
    training = {}
    for label, name in enumerate(classes):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as opened:
            for i in range(TRAIN):
                content = picture(label)
                info = tarfile.TarInfo(f"{name}_{i}.JPEG")
                info.size = len(content)
                opened.addfile(info, io.BytesIO(content))
        training[f"{name}.tar"] = buffer.getvalue()
    tar(folder / "ILSVRC2012_img_train.tar", training)
    # TFDS has the list of the validation part's classes, image by image: a test gives it this one.
    labels = [label for label, _ in members(TEST)]
    (folder / "labels.txt").write_text("\n".join(classes[label] for label in labels))
    files = {f"ILSVRC2012_val_{i:08}.JPEG": picture(k) for i, k in enumerate(labels, start=1)}
    tar(folder / "ILSVRC2012_img_val.tar", files)
    return counts(train=TRAIN, validation=TEST)


def gtsrb(folder: Path) -> dict[str, int]:
    train = {
        f"GTSRB/Training/{label:05}/{i:05}_00000.ppm": picture(label, kind="PPM")
        for label, i in members(TRAIN)
    }
    train |= {f"GTSRB/Training/{k:05}/GT-{k:05}.csv": b"Filename;Width" for k in range(CLASSES)}
    zipped(folder / "GTSRB-Training_fixed.zip", train)
    table = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    test = {}
    for number, (label, _) in enumerate(members(TEST)):
        test[f"GTSRB/Final_Test/Images/{number:05}.ppm"] = picture(label, kind="PPM")
        table.append(f"{number:05}.ppm;16;16;5;5;10;10;{label}")
    zipped(folder / "GTSRB_Final_Test_Images.zip", test)
    zipped(folder / "GTSRB_Final_Test_GT.zip", {"GT-final_test.csv": "\n".join(table).encode()})
    return counts(train=TRAIN, test=TEST)


def small(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Writes a data set's archives, and makes the catalogue say what is in them."""
    folder.mkdir(parents=True)
    splits = LAYOUTS[name](folder)
    data = catalogue.DATA_SETS[name]
    train = sum(splits[split] for split in data.train.split("+"))
    test = 0 if data.split else sum(splits[split] for split in data.test.split("+"))
    if data.split:
        train = round(train * data.split.train)
    entry = replace(data, classes=min(data.classes, CLASSES), train_size=train, test_size=test)
    monkeypatch.setitem(catalogue.DATA_SETS, name, entry)
    return splits


LAYOUTS: dict[str, Layout] = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "imagenet_r": imagenet_r,
    "cub200": cub200,
    "cars": cars,
    "domainnet": domainnet,
    "mnist": mnist,
    "svhn": svhn,
    "eurosat": eurosat,
    "resisc45": resisc45,
    "sun397": sun397,
    "dtd": dtd,
    "gtsrb": gtsrb,
    "stl10": stl10,
    "food101": food101,
    "fashion_mnist": mnist,
    "imagenet": imagenet,
    "flowers102": flowers102,
    "pets": pets,
    "pcam": pcam,
    "emnist": emnist,
    "kmnist": mnist,
}
