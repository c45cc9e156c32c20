"""Stanford Cars."""

from magmax_jax.data.data_set import DataSet, FromTfds
from magmax_jax.registry import DATA_SETS

TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of my {}.",
    "i love my {}!",
    "a photo of my dirty {}.",
    "a photo of my clean {}.",
    "a photo of my new {}.",
    "a photo of my old {}.",
)

DATA_SETS.register(
    "cars",
    DataSet(
        name="cars",
        classes=196,
        train_size=8_144,
        test_size=8_041,
        templates=TEMPLATES,
        epochs=30,
        naming="kept",
        tfds=FromTfds(
            builder="cars196",
            packages=("scipy",),
            links="Stanford's links have been dead since 2023; the copies listed in "
            "github.com/pytorch/vision/issues/7545 hold loose files: pack them as cars_train.tgz "
            "(cars_train/*.jpg), cars_test.tgz (cars_test/*.jpg) and car_devkit.tgz "
            "(devkit/cars_train_annos.mat), and set repacked",
        ),
    ),
)
