"""PatchCamelyon."""

from magmax_jax.data.data_set import DataSet, FromTfds
from magmax_jax.registry import DATA_SETS

CLASS_NAMES = ("lymph node", "lymph node containing metastatic tumor tissue")

DATA_SETS.register(
    "pcam",
    DataSet(
        name="pcam",
        classes=2,
        train_size=262_144,
        test_size=32_768,
        templates=("this is a photo of {}",),
        epochs=1,
        class_names=CLASS_NAMES,
        naming="listed",
        tfds=FromTfds(builder="patch_camelyon", packages=("h5py",)),
    ),
)
