"""MNIST."""

from magmax_jax.data.data_set import DataSet, FromTfds
from magmax_jax.inputs.prompts import NUMBERS
from magmax_jax.registry import DATA_SETS

DATA_SETS.register(
    "mnist",
    DataSet(
        name="mnist",
        classes=10,
        train_size=60_000,
        test_size=10_000,
        templates=NUMBERS,
        epochs=5,
        tfds=FromTfds(
            builder="mnist",
            per_class={
                "train": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
                "test": (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
            },
        ),
    ),
)
