"""Small archives in the layouts of data sets published as image files.

Every function writes one data set's archives and returns its images by TFDS split.
"""

import io
import json
import tarfile
from pathlib import Path

import numpy as np

from magmax_jax.data.published import wordnet_ids
from tests.data.packing import (
    CLASSES,
    TEST,
    TRAIN,
    counts,
    grey,
    matlab,
    members,
    names,
    picture,
    tar,
    zipped,
)


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
    classes = list(wordnet_ids("imagenet_r"))  # 200 of the builder's 1000 ids
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
    # TFDS bundles the validation labels, image by image; tests replace that list with this one.
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
