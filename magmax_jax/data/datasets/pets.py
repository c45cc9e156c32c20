"""Oxford-IIIT Pets."""

from magmax_jax.data.data_set import DataSet, FromTfds
from magmax_jax.registry import DATA_SETS

DATA_SETS.register(
    "pets",
    DataSet(
        name="pets",
        classes=37,
        train_size=3_680,
        test_size=3_669,
        templates=("a photo of a {}, a type of pet.",),
        epochs=82,
        tfds=FromTfds(builder="oxford_iiit_pet"),
    ),
)
