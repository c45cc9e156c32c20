"""Fashion-MNIST."""

from magmax_jax.data.data_set import DataSet, FromTfds
from magmax_jax.inputs.prompts import PLAIN
from magmax_jax.registry import DATA_SETS

DATA_SETS.register(
    "fashion_mnist",
    DataSet(
        name="fashion_mnist",
        classes=10,
        train_size=60_000,
        test_size=10_000,
        templates=PLAIN,
        epochs=5,
        naming="kept",
        tfds=FromTfds(builder="fashion_mnist", balanced=("train", "test")),
    ),
)
