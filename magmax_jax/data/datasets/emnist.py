"""EMNIST, digits."""

from magmax_jax.data.data_set import DataSet, FromTfds
from magmax_jax.registry import DATA_SETS

DATA_SETS.register(
    "emnist",
    DataSet(
        name="emnist",
        classes=10,
        train_size=240_000,
        test_size=40_000,
        templates=('a photo of the digit character: "{}".',),
        epochs=2,
        tfds=FromTfds(builder="emnist/digits", transposed=True, balanced=("train", "test")),
    ),
)
