"""KMNIST."""

from magmax_jax.data.data_set import DataSet, FromTfds
from magmax_jax.registry import DATA_SETS

DATA_SETS.register(
    "kmnist",
    DataSet(
        name="kmnist",
        classes=10,
        train_size=60_000,
        test_size=10_000,
        templates=("a photo of the character {}.",),
        epochs=5,
        tfds=FromTfds(builder="kmnist", balanced=("train", "test")),
    ),
)
