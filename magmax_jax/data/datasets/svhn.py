"""SVHN, cropped digits."""

from magmax_jax.data.data_set import DataSet, FromTfds
from magmax_jax.inputs.prompts import NUMBERS
from magmax_jax.registry import DATA_SETS

DATA_SETS.register(
    "svhn",
    DataSet(
        name="svhn",
        classes=10,
        train_size=73_257,
        test_size=26_032,
        templates=NUMBERS,
        epochs=4,
        tfds=FromTfds(
            builder="svhn_cropped",
            per_class={
                "train": (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
                "test": (1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595),
            },
            packages=("scipy",),
            unpacks=False,
        ),
    ),
)
