"""scikit-learn's handwritten digits, which need no download."""

import numpy as np

from magmax_jax.data.data_set import DataSet
from magmax_jax.data.source import Source, Split, hold_out
from magmax_jax.inputs.prompts import NUMBERS
from magmax_jax.registry import DATA_SETS


def read(split: Split, data_dir: str | None = None) -> Source:
    """1797 images of 8x8 pixels, grey repeated to RGB; divided by `hold_out`."""
    grey, labels, names = read_grey(split)
    images = np.repeat(grey[..., None], 3, axis=-1)
    return Source(images=images, labels=labels, class_names=names, image_shape=(8, 8))


def read_grey(split: Split) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """uint8 (n, 8, 8), int32 (n,) and the classes' names."""
    from sklearn import datasets  # slow to import

    digits = datasets.load_digits()
    chosen = hold_out(digits.target, split)
    grey = np.round(digits.images[chosen] * (255 / 16)).astype(np.uint8)
    return grey, digits.target[chosen].astype(np.int32), tuple(map(str, digits.target_names))


DATA_SETS.register(
    "digits",
    DataSet(
        name="digits",
        read=read,
        classes=10,
        train_size=1_442,
        test_size=355,
        templates=NUMBERS,
    ),
)
