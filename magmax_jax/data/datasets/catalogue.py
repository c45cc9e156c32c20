"""The data sets known by name: one table of what a run and `experiments.prepare` must know.

Sizes and epochs are those of the MagMax experiments (arXiv 2407.06322) and, for the data sets that
only later works use, those of the code that extended its eight to 14 and 20 (TALL masks, Wang et
al., 2024, arXiv 2405.07813). Builders, splits and class names are those of TFDS 4.9.10.
"""

import re
from dataclasses import dataclass
from typing import Literal

from magmax_jax.data.datasets.seeded_split import SeededSplit

DEFAULT_EPOCHS = 10
"""Of a data set for which nothing is published."""


@dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
      name: as in papers and on our command line.
      builder: of TFDS, name or name/config; gtsrb's is ours; "" of those built in.
      classes: how many.
      train_size, test_size: images, of the splits below.
      train, test: TFDS splits, "train+validation" for two; with `split`, `train` is divided.
      split: how to divide it where there are no test images; None where there are.
      templates: its set in templates.json.
      epochs: published number for one task.
      naming: class names in prompts: the builder's own with spaces for underscores and slashes
        ("cleaned") or just as they are ("kept"), or those of class_names.json, in the same order
        as the builder's ("listed").
      drop: regular expression of what numbers or sorts class names and stays out of prompts.
      domains: where the domain is told: TFDS configs, the file's name, or by our own reader; None
        without domains.
      transposed: its builder, in every config, has images with rows and columns exchanged; what is
        read is upright.
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
    naming: Literal["cleaned", "kept", "listed"] = "cleaned"
    drop: str = ""
    domains: Literal["configs", "file name", "reader"] | None = None
    transposed: bool = False


# fmt: off
DATA_SETS = {
    data.name: data
    for data in (
        DataSet("cifar10", "cifar10", 10, 50_000, 10_000, "tiny"),
        DataSet("cifar100", "cifar100", 100, 50_000, 10_000, "tiny", naming="kept"),
        DataSet("imagenet_r", "imagenet_r", 200, 24_000, 6_000, "objects", train="test",
                domains="file name", split=SeededSplit(
                    by_class=False, key="file_name", fingerprint=
                    "c4ec4f0e78cfe0dd176ce3f46caeca6bdb19d104554045cdb4be9fd3d6c95073")),
        DataSet("cub200", "caltech_birds2011", 200, 5_994, 5_794, "objects", epochs=30,
                naming="listed", drop=r"^\d+\."),
        DataSet("cars", "cars196", 196, 8_144, 8_041, "cars", epochs=30, naming="kept"),
        DataSet("domainnet", "domainnet", 345, 409_832, 176_743, "objects", domains="configs"),
        DataSet("mnist", "mnist", 10, 60_000, 10_000, "numbers", epochs=5),
        DataSet("svhn", "svhn_cropped", 10, 73_257, 26_032, "numbers", epochs=4),
        DataSet("eurosat", "eurosat/rgb", 10, 21_600, 2_700, "eurosat", epochs=12,
                split=SeededSplit(train=0.8, test=0.1), naming="listed"),
        DataSet("resisc45", "resisc45", 45, 18_900, 6_300, "aerial", epochs=15,
                split=SeededSplit(train=0.6, test=0.2)),
        DataSet("sun397", "sun397/standard-part1-120k", 397, 19_850, 19_850, "plain", epochs=14,
                drop=r"^/\w/"),
        DataSet("dtd", "dtd", 47, 3_760, 1_880, "textures", train="train+validation", epochs=75),
        DataSet("gtsrb", "gtsrb", 43, 26_640, 12_630, "signs", epochs=11, naming="listed"),
        DataSet("stl10", "stl10", 10, 5_000, 8_000, "plain", epochs=60),
        DataSet("food101", "food101", 101, 75_750, 25_250, "food", test="validation", epochs=4),
        DataSet("fashion_mnist", "fashion_mnist", 10, 60_000, 10_000, "plain", epochs=5,
                naming="kept"),
        DataSet("imagenet", "imagenet2012", 1000, 1_281_167, 50_000, "objects", test="validation",
                naming="listed"),
        DataSet("flowers102", "oxford_flowers102", 102, 1_020, 6_149, "flowers", epochs=147,
                naming="listed"),
        DataSet("pets", "oxford_iiit_pet", 37, 3_680, 3_669, "pets", epochs=82),
        DataSet("pcam", "patch_camelyon", 2, 262_144, 32_768, "histology", epochs=1,
                naming="listed"),
        DataSet("emnist", "emnist/digits", 10, 240_000, 40_000, "digits", epochs=2,
                transposed=True),
        DataSet("kmnist", "kmnist", 10, 60_000, 10_000, "characters", epochs=5),
    )
}
# fmt: on
"""What TFDS prepares, by name."""

BUILT_IN = {
    data.name: data
    for data in (
        DataSet("digits", "", 10, 1_442, 355, "numbers"),
        DataSet("digits_styles", "", 10, 4_326, 1_065, "numbers", domains="reader"),
    )
}
"""What needs no preparing."""

EIGHT = (
    "cars@35", "mnist@5", "eurosat@12", "svhn@4", "resisc45@15", "sun397@14", "dtd@75", "gtsrb@11"
)  # fmt: skip
"""The paper's eight data sets in its order, NAME@EPOCHS."""

FOURTEEN = (*EIGHT, "stl10@60", "pets@82", "flowers102@147", "cifar100@6", "pcam@1")
"""Wang et al.'s next six in their order, without FER2013, which TFDS does not have."""

TWENTY = (*FOURTEEN, "cifar10@6", "food101@4", "fashion_mnist@5", "emnist@2", "kmnist@5")
"""And their next six in their order, without Rendered SST-2, which TFDS does not have."""

LISTS = {"eight": EIGHT, "fourteen": FOURTEEN, "twenty": TWENTY}


def find(dataset: str) -> DataSet | None:
    """By its own name or its TFDS builder's; a :version counts for nothing.

    Another /config than the data set's own is another data set, unless configs are its domains.
    """
    known, config = _of_builder(dataset), _config(dataset)
    if known and config and known.domains != "configs" and config != _config(known.builder):
        return None
    return known


def builder_of(dataset: str) -> str:
    """What TFDS calls it: "cub200" -> "caltech_birds2011", "eurosat" -> "eurosat/rgb".

    A /config or :version that is given stays, and so does a name that is not known here.
    """
    known, rest = _of_builder(dataset), "".join(re.split("([/:])", dataset)[1:])
    if known is None or not known.builder:
        return dataset
    return (known.builder.split("/")[0] if rest.startswith("/") else known.builder) + rest


def is_transposed(builder: str) -> bool:
    """Whether a TFDS builder has images with rows and columns exchanged, whatever its /config."""
    known = _of_builder(builder)
    return known is not None and known.transposed


def epochs(dataset: str) -> int:
    """The published number of epochs for one task, `DEFAULT_EPOCHS` where there is none."""
    known = find(dataset)
    return known.epochs if known else DEFAULT_EPOCHS


def _of_builder(dataset: str) -> DataSet | None:
    """The data set of that name, or made by that builder in any /config and :version."""
    name = re.split("[/:]", dataset)[0]
    builders = {data.builder.split("/")[0]: data for data in DATA_SETS.values()}
    return (builders | DATA_SETS | BUILT_IN).get(name)


def _config(builder: str) -> str:
    """The part after the first slash, without a version."""
    return builder.split(":")[0].partition("/")[2]
