"""How the loader fits images that do not go to the device unchanged."""

from dataclasses import replace

import numpy as np
import pytest

from magmax_jax.data import Source, eval_batches, train_batches
from tests.data.cases import Pictures, assert_same, mixed


def test_evaluation_of_mixed_sizes_crops_squares():
    (batch,) = eval_batches(mixed(), np.arange(5), 5, size=48)
    assert batch.image.shape == (5, 48, 48, 3)
    np.testing.assert_array_equal(batch.box, [[0, 0, 48, 48]] * 5)
    # Each picture has one colour, so resizing keeps it.
    np.testing.assert_array_equal(batch.image, np.arange(5)[:, None, None, None] + 0 * batch.image)


def test_training_on_mixed_sizes_keeps_a_region_to_crop():
    batches = train_batches(mixed(), np.arange(5), 5, epochs=1, seed=0, size=48)
    (batch,) = batches
    assert batch.image.shape == (5, 90, 90, 3)  # 90 = 1.5 ceil(1.25 48)
    boxes = dict(zip(batch.index.tolist(), batch.box.tolist(), strict=True))
    assert boxes == {
        0: [0, 0, 20, 30],  # unchanged
        1: [0, 0, 60, 40],  # trimmed
        2: [0, 0, 60, 60],  # shrunk
        3: [0, 0, 10, 15],  # trimmed, never enlarged
        4: [0, 0, 90, 60],  # shrunk, no longer than allowed
    }
    for image, (_, _, height, width), index in zip(
        batch.image, batch.box, batch.index, strict=True
    ):
        np.testing.assert_array_equal(image[:height, :width], index)
        assert not image[height:].any() and not image[:, width:].any()


class Scaled(Pictures):
    """Records the size asked for in every read and returns it: a JPEG of any fraction."""

    def __init__(self, shapes):
        super().__init__(shapes)
        self.wanted = []

    def read(self, index, least):
        self.wanted.append(least)
        short = min(self.shapes[index])
        self.shapes[index] = tuple(side * least // short for side in self.shapes[index])
        return self[index]


@pytest.mark.parametrize("shape", [None, (400, 300)], ids=["mixed", "of one size"])
def test_training_decodes_twice_the_size_and_evaluation_all_pixels(shape):
    images = Scaled([(400, 300)] * 5)
    source = Source(images, np.zeros(5, np.int32), ("a",), image_shape=shape)
    (exact,) = eval_batches(source, np.arange(5), 5, size=48)
    assert not images.wanted and exact.image.shape == (5, 48, 48, 3)
    (batch,) = train_batches(source, np.arange(5), 5, epochs=1, seed=0, size=48)
    assert images.wanted == [120] * 5  # 2 ceil(1.25 48)
    np.testing.assert_array_equal(batch.box, [[0, 0, 80, 60]] * 5)


@pytest.mark.parametrize("in_memory", [True, False])
def test_large_images_of_one_size_are_shrunk_like_mixed_sizes(in_memory):
    images = Pictures([(200, 300)] * 5)
    if in_memory:
        images = np.stack([images[i] for i in range(5)])
    source = Source(images, np.zeros(5, np.int32), ("a",))
    uniform = replace(source, image_shape=(200, 300))
    arguments = np.arange(5), 4, 2, 0, 48
    (first, *_) = batches = list(train_batches(uniform, *arguments))
    assert first.image.shape == (4, 90, 90, 3)
    assert_same(batches, train_batches(source, *arguments))
    assert_same(
        eval_batches(uniform, np.arange(5), 4, 48), eval_batches(source, np.arange(5), 4, 48)
    )
    # For a larger model they do not count as large.
    (batch,) = eval_batches(uniform, np.arange(5), 5, size=224)
    assert batch.image.shape == (5, 200, 300, 3)
