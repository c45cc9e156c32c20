"""Food-101."""

from magmax_jax.data.data_set import DataSet, FromTfds
from magmax_jax.registry import DATA_SETS

DATA_SETS.register(
    "food101",
    DataSet(
        name="food101",
        classes=101,
        train_size=75_750,
        test_size=25_250,
        templates=("a photo of {}, a type of food.",),
        epochs=4,
        tfds=FromTfds(builder="food101", test="validation", balanced=("train", "validation")),
    ),
)
