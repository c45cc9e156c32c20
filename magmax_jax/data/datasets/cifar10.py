"""CIFAR-10."""

from magmax_jax.data.data_set import DataSet, FromTfds
from magmax_jax.inputs.prompts import TINY
from magmax_jax.registry import DATA_SETS

DATA_SETS.register(
    "cifar10",
    DataSet(
        name="cifar10",
        classes=10,
        train_size=50_000,
        test_size=10_000,
        templates=TINY,
        tfds=FromTfds(builder="cifar10", balanced=("train", "test")),
    ),
)
