"""Describable Textures."""

from magmax_jax.data.data_set import DataSet, FromTfds
from magmax_jax.registry import DATA_SETS

TEMPLATES = (
    "a photo of a {} texture.",
    "a photo of a {} pattern.",
    "a photo of a {} thing.",
    "a photo of a {} object.",
    "a photo of the {} texture.",
    "a photo of the {} pattern.",
    "a photo of the {} thing.",
    "a photo of the {} object.",
)

DATA_SETS.register(
    "dtd",
    DataSet(
        name="dtd",
        classes=47,
        train_size=3_760,
        test_size=1_880,
        templates=TEMPLATES,
        epochs=75,
        tfds=FromTfds(
            builder="dtd", train="train+validation", balanced=("train", "validation", "test")
        ),
    ),
)
