"""CIFAR-100."""

from magmax_jax.data.data_set import DataSet, FromTfds
from magmax_jax.inputs.prompts import TINY
from magmax_jax.registry import DATA_SETS

# fmt: off
CLASS_ORDER = (
    70, 89, 11, 13, 63, 53, 86, 57, 41, 43, 14, 98, 52, 73, 95, 96, 33, 16, 39, 74, 25, 88, 35, 28,
    79, 82, 72, 4, 30, 17, 59, 97, 36, 38, 29, 55, 83, 7, 22, 48, 19, 47, 2, 44, 67, 71, 34, 84, 6,
    46, 61, 8, 80, 10, 49, 15, 68, 9, 99, 40, 27, 45, 51, 37, 21, 64, 92, 24, 60, 31, 5, 91, 93, 90,
    65, 66, 77, 20, 58, 62, 23, 76, 75, 42, 0, 26, 87, 50, 3, 56, 81, 1, 94, 69, 18, 78, 54, 12, 85,
    32,
)
# fmt: on

DATA_SETS.register(
    "cifar100",
    DataSet(
        name="cifar100",
        classes=100,
        train_size=50_000,
        test_size=10_000,
        templates=TINY,
        naming="kept",
        class_order=CLASS_ORDER,
        tfds=FromTfds(builder="cifar100", balanced=("train", "test")),
    ),
)
