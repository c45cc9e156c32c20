"""SUN397."""

from magmax_jax.data.data_set import DataSet, FromTfds
from magmax_jax.inputs.prompts import PLAIN
from magmax_jax.registry import DATA_SETS

DATA_SETS.register(
    "sun397",
    DataSet(
        name="sun397",
        classes=397,
        train_size=19_850,
        test_size=19_850,
        templates=PLAIN,
        epochs=14,
        drop=r"^/\w/",
        tfds=FromTfds(
            builder="sun397/standard-part1-120k",
            balanced=("train", "test"),
            packages=("cv2",),
            unpacks=False,
            links="Princeton's links have been dead since 2025 "
            "(github.com/pytorch/vision/issues/9348); SUN397.tar.gz holds SUN397/a/abbey/*.jpg "
            "and so on, Partitions.zip holds Training_01.txt and Testing_01.txt; with archives "
            "packed again, set repacked",
        ),
    ),
)
