"""STL-10."""

from magmax_jax.data.data_set import DataSet, FromTfds
from magmax_jax.inputs.prompts import PLAIN
from magmax_jax.registry import DATA_SETS

DATA_SETS.register(
    "stl10",
    DataSet(
        name="stl10",
        classes=10,
        train_size=5_000,
        test_size=8_000,
        templates=PLAIN,
        epochs=60,
        tfds=FromTfds(builder="stl10", balanced=("train", "test")),
    ),
)
