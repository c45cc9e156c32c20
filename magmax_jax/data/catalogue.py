"""The data sets known by name: one table of what a run and `experiments.prepare` must know.

Sizes and default epochs are those of the MagMax experiments (arXiv 2407.06322) and, for the lists
of 14 and 20 data sets, of the works that extended its eight (Wang et al., 2024, arXiv 2405.07813).
"""

from dataclasses import dataclass, field
from typing import Literal

DEFAULT_EPOCHS = 10
"""Of a data set for which nothing is published."""


@dataclass(frozen=True)
class SeededSplit:
    """How a data set is divided for which its publishers give no test images.

    Images are ranked by a hash of seed and file name: the first ones train, the last ones test,
    what is between is neither (a validation part).
    """

    train: float = 0.8
    """Share of the images, in (0, 1)."""
    test: float = 0.2
    by_class: bool = True
    """Take these shares of every class, or of all images together."""
    seed: int = 5
    key: str = "filename"
    """The TFDS feature that holds the file name."""


@dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
      name: as in papers and on our command line.
      builder: of TFDS, name or name/config; gtsrb's is ours.
      classes: how many.
      train_size, test_size: images, of the splits below.
      train, test: TFDS splits, "train+validation" for two; with `split`, `train` is divided.
      split: how to divide it where there are no test images; None where there are.
      templates: its set in templates.json.
      epochs: published number for one task.
      drop: regular expression of what numbers or sorts class names and stays out of prompts.
      domains: where the domain is told: TFDS configs, or the file's name; None without domains.
      manual: what a user must do by hand before TFDS can prepare it; "" for nothing.
    """

    name: str
    builder: str
    classes: int
    train_size: int
    test_size: int
    templates: str
    train: str = "train"
    test: str = "test"
    split: SeededSplit | None = None
    epochs: int = DEFAULT_EPOCHS
    drop: str = ""
    domains: Literal["configs", "file name"] | None = None
    manual: str = field(default="", repr=False)


DATA_SETS = {
    data.name: data
    for data in (
        DataSet("cifar10", "cifar10", 10, 50_000, 10_000, "tiny"),
        DataSet("cifar100", "cifar100", 100, 50_000, 10_000, "tiny"),
        DataSet(
            "imagenet_r",
            "imagenet_r",
            200,
            24_000,
            6_000,
            "objects",
            train="test",
            split=SeededSplit(by_class=False, key="file_name"),
            domains="file name",
        ),
        DataSet(
            "cub200", "caltech_birds2011", 200, 5_994, 5_794, "objects", epochs=30, drop=r"^\d+\."
        ),
        DataSet("cars", "cars196", 196, 8_144, 8_041, "cars", epochs=30),
        DataSet("domainnet", "domainnet", 345, 409_832, 176_743, "objects", domains="configs"),
        DataSet("mnist", "mnist", 10, 60_000, 10_000, "numbers", epochs=5),
        DataSet("svhn", "svhn_cropped", 10, 73_257, 26_032, "numbers", epochs=4),
        DataSet(
            "eurosat",
            "eurosat/rgb",
            10,
            21_600,
            2_700,
            "eurosat",
            split=SeededSplit(train=0.8, test=0.1),
            epochs=12,
        ),
        DataSet(
            "resisc45",
            "resisc45",
            45,
            18_900,
            6_300,
            "aerial",
            split=SeededSplit(train=0.6, test=0.2),
            epochs=15,
        ),
        DataSet(
            "sun397",
            "sun397/standard-part1-120k",
            397,
            19_850,
            19_850,
            "plain",
            epochs=14,
            drop=r"^/\w/",
        ),
        DataSet("dtd", "dtd", 47, 3_760, 1_880, "textures", train="train+validation", epochs=75),
        DataSet("gtsrb", "gtsrb", 43, 26_640, 12_630, "signs", epochs=11),
        DataSet("stl10", "stl10", 10, 5_000, 8_000, "plain"),
        DataSet("food101", "food101", 101, 75_750, 25_250, "food", test="validation"),
        DataSet("fashion_mnist", "fashion_mnist", 10, 60_000, 10_000, "clothes"),
        DataSet("imagenet", "imagenet2012", 1000, 1_281_167, 50_000, "objects", test="validation"),
        DataSet("flowers102", "oxford_flowers102", 102, 1_020, 6_149, "flowers"),
        DataSet("pets", "oxford_iiit_pet", 37, 3_680, 3_669, "pets"),
        DataSet("pcam", "patch_camelyon", 2, 262_144, 32_768, "histology"),
        DataSet("emnist", "emnist/digits", 10, 240_000, 40_000, "numbers"),
        DataSet("kmnist", "kmnist", 10, 60_000, 10_000, "characters"),
    )
}

EIGHT = (
    "cars@35", "mnist@5", "eurosat@12", "svhn@4", "resisc45@15", "sun397@14", "dtd@75", "gtsrb@11"
)  # fmt: skip
"""The paper's eight data sets in its order, NAME@EPOCHS."""

FOURTEEN = (*EIGHT, "flowers102@147", "pcam@1", "pets@82", "stl10@60", "cifar100@6")
"""The fourteen of later papers, without FER2013, which TFDS does not have."""

TWENTY = (*FOURTEEN, "cifar10@6", "food101@4", "fashion_mnist@5", "emnist@2", "kmnist@5")
"""The twenty of later papers, without FER2013 and Rendered SST-2, which TFDS does not have."""

LISTS = {"eight": EIGHT, "fourteen": FOURTEEN, "twenty": TWENTY}


def find(dataset: str) -> DataSet | None:
    """By its own name or its TFDS builder's, whose /config and :version count for nothing."""
    name = dataset.split("/")[0].split(":")[0]
    if name in DATA_SETS:
        return DATA_SETS[name]
    return next((d for d in DATA_SETS.values() if d.builder.split("/")[0] == name), None)


def epochs(dataset: str) -> int:
    """The published number of epochs for one task, `DEFAULT_EPOCHS` where there is none."""
    known = find(dataset)
    return known.epochs if known else DEFAULT_EPOCHS
