"""One data set as one value: how it is read, and everything published about it.

Each bundled data set is a module of `magmax_jax.data.datasets`, found by its file name. Others can
be registered under a new name:

    from magmax_jax.data import DataSet, Source
    from magmax_jax.registry import DATA_SETS

    def read_squares(split, data_dir) -> Source: ...

    DATA_SETS.register("squares", DataSet(name="squares", read=read_squares))
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from magmax_jax.data.seeded_split import SeededSplit
from magmax_jax.data.source import Source, Split
from magmax_jax.inputs.prompts import ANY

DEFAULT_EPOCHS = 10
"""For data sets without a published number."""


@dataclass(frozen=True)
class Archive:
    """One file that a TFDS builder downloads."""

    url: str
    name: str
    """The file name of the user's own copy."""
    size: int | None = None
    """Bytes; None if TFDS does not know."""


@dataclass(frozen=True, kw_only=True)
class FromTfds:
    """How a data set is prepared and read by TensorFlow Datasets (4.9.10).

    Attributes:
      builder: name or name/config.
      module: of a builder that TFDS lacks, imported before looking it up; "" for TFDS's own.
      train, test: TFDS splits, "train+validation" for two; with `split`, `train` is divided.
      split: how to divide it if there are no test images; None if there are.
      domains: where to find an image's domain: in the TFDS config or the file name; None without
        domains.
      transposed: the builder's images, in every config, have rows and columns swapped; this is
        undone on reading.
      balanced: TFDS splits in which the publishers have equally many images of each class.
      per_class: TFDS split -> the publishers' number of images per class, in the builder's order.
      per_domain: domain -> its numbers of training and test images, for domains that are configs.
      packages: imported by the builder, besides TensorFlow, for preparing.
      needs_tensorflow: whether the builder imports TensorFlow for preparing.
      by_hand: files or folders that cannot be downloaded automatically.
      unpacks: whether the builder unpacks its archives to disk.
      links: known facts about the publisher's links and about copies elsewhere.
      choose_archives: (builder, the archives registered with TFDS) -> what it downloads, for
        builders whose registered archives differ from that.
    """

    builder: str
    module: str = ""
    train: str = "train"
    test: str = "test"
    split: SeededSplit | None = None
    domains: Literal["configs", "file name"] | None = None
    transposed: bool = False
    balanced: tuple[str, ...] = ()
    per_class: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    per_domain: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    needs_tensorflow: bool = True
    by_hand: tuple[str, ...] = ()
    unpacks: bool = True
    links: str = ""
    choose_archives: Callable[[Any, tuple[Archive, ...]], tuple[Archive, ...]] | None = None


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One data set; precisely one of `read` and `tfds` says how it is read.

    Published sizes, epochs, names and orders are those of the MagMax experiments (arXiv 2407.06322)
    and, for data sets that only later works use, those of the code that extended its eight to 14
    and 20 (TALL masks, Wang et al., 2024, arXiv 2405.07813). Class names of imagenet, flowers102
    and pcam are CLIP's, those of cub200 the archive's. Prompts are those published with CLIP, for
    emnist and kmnist those of TALL masks.

    Attributes:
      name: as in papers and on the command line.
      read: (split, data_dir) -> the images; data_dir is the configuration's, often None.
      tfds: for a data set that is prepared once, then read by TFDS.
      classes, train_size, test_size: numbers of classes and images; 0 if unknown, so that a plan
        must read the data.
      templates: prompts, with {} in place of the class name.
      epochs: the published number of epochs per task.
      class_names: the published ones, in their own order; () to use the data's own names.
      wordnet_ids: of `class_names`, in the same order, for data whose classes are WordNet ids.
      naming: class names in prompts: the data's own with spaces for underscores and slashes
        ("cleaned") or unchanged ("kept"), or `class_names`, in the same order as the data's
        ("listed").
      drop: regular expression of numbering in class names that is left out of prompts.
      class_order: the published order of learning, indices into the published class names.
      domain_names: in the published order of learning.

    Raises:
      ValueError: both or neither of `read` and `tfds` are given.
    """

    name: str
    read: Callable[[Split, str | None], Source] | None = None
    tfds: FromTfds | None = None
    classes: int = 0
    train_size: int = 0
    test_size: int = 0
    templates: tuple[str, ...] = ANY
    epochs: int = DEFAULT_EPOCHS
    class_names: tuple[str, ...] = ()
    wordnet_ids: tuple[str, ...] = ()
    naming: Literal["cleaned", "kept", "listed"] = "cleaned"
    drop: str = ""
    class_order: tuple[int, ...] = ()
    domain_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.read is None) == (self.tfds is None):
            raise ValueError(f"data set {self.name}: give precisely one of read and tfds")

    @property
    def has_sizes(self) -> bool:
        """Whether a run can be planned without reading the data."""
        return bool(self.classes and self.train_size and self.test_size)
