"""RESISC45."""

from magmax_jax.data.data_set import DataSet, FromTfds
from magmax_jax.data.seeded_split import SeededSplit
from magmax_jax.registry import DATA_SETS

TEMPLATES = (
    "satellite imagery of {}.",
    "aerial imagery of {}.",
    "satellite photo of {}.",
    "aerial photo of {}.",
    "satellite view of {}.",
    "aerial view of {}.",
    "satellite imagery of a {}.",
    "aerial imagery of a {}.",
    "satellite photo of a {}.",
    "aerial photo of a {}.",
    "satellite view of a {}.",
    "aerial view of a {}.",
    "satellite imagery of the {}.",
    "aerial imagery of the {}.",
    "satellite photo of the {}.",
    "aerial photo of the {}.",
    "satellite view of the {}.",
    "aerial view of the {}.",
)

DATA_SETS.register(
    "resisc45",
    DataSet(
        name="resisc45",
        classes=45,
        train_size=18_900,
        test_size=6_300,
        templates=TEMPLATES,
        epochs=15,
        tfds=FromTfds(
            builder="resisc45",
            split=SeededSplit(train=0.6),
            balanced=("train",),
            by_hand=("NWPU-RESISC45",),
            links="get the archive from gcheng-nwpu.github.io/#Datasets or from "
            "huggingface.co/datasets/torchgeo/resisc45, and unpack it: NWPU-RESISC45/CLASS/*.jpg",
        ),
    ),
)
