"""Sources whose images are each filled with their number, and invalid names."""

import jax
import numpy as np

from magmax_jax.data import Source

WHY = {
    "cifar100:9.9.9": r"Dataset cifar100 cannot be loaded at version 9\.9\.9, only: 3\.0\.2\.",
    "cifar100:x": "'x' is not a version such as 1.0.0",
    "cifar100/foo": "cifar100 has no configs",
    "domainnet/x": "domainnet has the configs real, .*, sketch",
    "emnist/x:3.1.0": "emnist has the configs byclass, .*, mnist",
}
"""Invalid data set names -> pattern of the error."""


class Pictures:
    """Images that are not an array; image i is filled with i."""

    def __init__(self, shapes):
        self.shapes = shapes

    def __getitem__(self, index):
        return np.full((*self.shapes[index], 3), index, np.uint8)


def uniform(count=23, in_memory=True):
    shapes = [(4, 6)] * count
    images = Pictures(shapes)
    if in_memory:
        images = np.stack([images[i] for i in range(count)])
    labels = (np.arange(count) % 3).astype(np.int32)
    return Source(images, labels, ("a", "b", "c"), image_shape=(4, 6))


def mixed():
    shapes = [(20, 30), (90, 40), (64, 64), (10, 100), (300, 200)]
    return Source(Pictures(shapes), np.zeros(5, np.int32), ("a",))


def assert_same(ours, theirs):
    ours, theirs = list(ours), list(theirs)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)
