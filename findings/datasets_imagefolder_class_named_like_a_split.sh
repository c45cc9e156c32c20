#!/usr/bin/env bash
# Hugging Face's imagefolder takes a class whose name contains "train" or "test" for a split.
#
# Versions: datasets 5.2.0, pillow 13.0.0.
# Guess: load_dataset("imagefolder", data_dir=DIR) makes one labelled split of DIR/CLASS/*.png,
#   whatever the classes are called, and keeps DIR/train and DIR/test apart.
# Seen: a word of the path is enough (train, test, validation, dev, eval, and more), at any depth.
#   Beside a class "train" (CIFAR-100 and COCO have one) all other classes vanish, and the labels
#   too. Of "bus", "test tube" and "train station", the bus vanishes, and the station's label is None
#   under a ClassLabel column. Where train/ and test/ both have a class "train", its test images are
#   in the training split too.
# So: count images and labels after loading, or name the files by data_files={"train": ...}. Our
#   folder reader goes by train/ and test/ at the top alone, and refuses images without a label.
# Output seen:
#   bus, car, train: train 1 images, no labels
#   bus, test tube, train station: train 1 images, labels [None]; test 1 images, labels [0]
#   train/bus, train/train, test/bus, test/train: train 3 images, labels [0, 1, 1]; test 2 images, labels [0, 1]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check datasets==5.2.0 pillow==13.0.0
cat > "$work/folders.py" <<'PYTHON'
import sys
import tempfile
from pathlib import Path

import datasets
from PIL import Image

datasets.disable_progress_bars()
EXPECTED = {
    "bus, car, train": "train 1 images, no labels",
    "bus, test tube, train station": (
        "train 1 images, labels [None]; test 1 images, labels [0]"
    ),
    "train/bus, train/train, test/bus, test/train": (
        "train 3 images, labels [0, 1, 1]; test 2 images, labels [0, 1]"
    ),
}
for folders, expected in EXPECTED.items():
    root = Path(tempfile.mkdtemp(dir=sys.argv[1]))
    for folder in folders.split(", "):  # one image in each
        (root / "data" / folder).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(root / "data" / folder / "0.png")
    found = datasets.load_dataset("imagefolder", data_dir=str(root / "data"), cache_dir=root / "cache")
    parts = []
    for name, split in found.items():
        labelled = "label" in split.features
        labels = sorted(split["label"], key=str) if labelled else None
        parts.append(f"{name} {len(split)} images, {f'labels {labels}' if labelled else 'no labels'}")
    said = "; ".join(parts)
    print(f"{folders}: {said}")
    assert said == expected, "this has changed"
PYTHON
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/folders.py" "$work"
