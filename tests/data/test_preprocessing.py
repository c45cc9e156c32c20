import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from magmax_jax.data import Preprocessing
from magmax_jax.errors import UserError
from magmax_jax.inputs.host_resize import centre_square
from magmax_jax.inputs.preprocessing import (
    ASPECT_RATIOS,
    random_crops,
    resize,
    resize_weights,
)
from tests.data import SHARED, needs_shared

PIXELS = partial(Preprocessing, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))
"""Leaves pixels in [0, 255]."""


evaluate = jax.jit(Preprocessing.evaluate, static_argnums=0)
train = jax.jit(Preprocessing.train, static_argnums=(0, 4))
draw_crops = jax.jit(random_crops, static_argnums=2)


def synthetic(height, width):
    """Smooth waves with hard-edged black and white shapes; both expose bicubic weights."""
    y, x = np.mgrid[:height, :width]
    waves = [127.5 + 127.5 * np.sin(x / a + y / b) for a, b in ((7, 5), (3, 11), (13, 2))]
    image = np.stack(waves, axis=-1)
    image[height // 4 : height // 2, width // 3 : width // 2] = 0
    image[height // 2 :, width // 2 : width // 2 + 3] = 255
    return image.astype(np.uint8)


def whole(images):
    return jnp.array([[0, 0, *images.shape[1:3]]] * len(images), jnp.int32)


def pillow(image, size, box=None):
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, box), float)


@pytest.mark.parametrize("side", [32, 97])
@pytest.mark.parametrize("size", [32, 50, 224])
def test_square_resize_matches_pillow(side, size):
    image = synthetic(side, side)
    ours = evaluate(PIXELS(size), image[None], whole(image[None]))[0]
    np.testing.assert_allclose(ours, pillow(image, (size, size)), atol=2)


@needs_shared("data/pacs")
@pytest.mark.parametrize("size", [64, 224])
def test_resize_of_natural_images_matches_pillow(size):
    paths = sorted((SHARED / "data/pacs/test").glob("*/*/*.jpg"))[::25]
    images = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    ours = evaluate(PIXELS(size), images, whole(images))
    theirs = np.stack([pillow(image, (size, size)) for image in images])
    np.testing.assert_allclose(ours, theirs, atol=2)


@pytest.mark.parametrize("shape", [(40, 61), (61, 40), (33, 33), (20, 90)])
@pytest.mark.parametrize("size", [24, 56])
def test_evaluation_of_a_region_matches_the_host(shape, size):
    """A region inside a canvas of noise gives the same pixels as the host on the region alone."""
    image = synthetic(*shape)
    canvas = np.random.default_rng(0).integers(0, 256, (1, 100, 110, 3), np.uint8)
    canvas[0, 7 : 7 + shape[0], 5 : 5 + shape[1]] = image
    ours = evaluate(PIXELS(size), canvas, jnp.array([[7, 5, *shape]]))[0]
    theirs, box = centre_square(image, size)
    assert box == (0, 0, size, size)
    np.testing.assert_allclose(ours, theirs, atol=2)


def test_an_image_of_the_right_size_is_untouched():
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(resize_weights(32, 32, 0, 32, 0, 1.0), np.eye(32))
    axis = jnp.zeros(3), jnp.full(3, 32), jnp.zeros(3), jnp.ones(3)
    np.testing.assert_array_equal(resize(images, 32, axis, axis), images)
    preprocessing = Preprocessing(32)
    ours = evaluate(preprocessing, images, whole(images))
    expected = (images / 255 - np.array(preprocessing.mean)) / np.array(preprocessing.std)
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    assert ours.dtype == jnp.float32


def test_a_batch_equals_its_images_one_by_one():
    images = np.stack([synthetic(48, 48), synthetic(48, 48)[::-1]])
    boxes = jnp.array([[0, 0, 48, 48], [3, 5, 30, 41]])
    together = evaluate(Preprocessing(20), images, boxes)
    alone = [evaluate(Preprocessing(20), images[i : i + 1], boxes[i : i + 1]) for i in range(2)]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)


def test_training_without_crops_equals_evaluation():
    images = synthetic(40, 30)[None]
    arguments = images, whole(images)
    ours = train(Preprocessing(24), jax.random.key(0), *arguments, (1.0, 1.0))
    np.testing.assert_array_equal(ours, evaluate(Preprocessing(24), *arguments))


def test_training_resizes_its_crop_as_pillow_does():
    image, box, key = synthetic(60, 80), jnp.array([[4, 6, 50, 70]]), jax.random.key(1)
    top, left, height, width = draw_crops(key, box, (0.3, 0.6))[0].tolist()
    ours = train(PIXELS(32), key, image[None], box, (0.3, 0.6))[0]
    crop = image[top : top + height, left : left + width]
    np.testing.assert_allclose(ours, pillow(crop, (32, 32)), atol=2)


def test_random_crops_stay_inside_and_cover_the_range():
    count = 4000
    boxes = jnp.array([[3, 2, 90, 100]] * count)
    crops = np.asarray(draw_crops(jax.random.key(0), boxes, (0.2, 0.6)))
    top, left, height, width = crops.T
    assert crops.dtype == np.int32
    assert top.min() == 3 and (top + height).max() == 93
    assert left.min() == 2 and (left + width).max() == 102
    # Nearly all draws fit, so areas are uniform and log-ratios symmetric; rounding blurs the ends.
    area, ratio = height * width / 9000, np.log(width / height)
    assert 0.19 < area.min() < 0.21 and 0.59 < area.max() < 0.61
    assert abs(area.mean() - 0.4) < 0.01 and abs(ratio.mean()) < 0.02
    assert abs(ratio).max() < math.log(4 / 3) + 0.05


@pytest.mark.parametrize("shape", [(20, 90), (90, 20), (60, 70)])
def test_regions_where_nothing_fits_give_the_central_crop(shape):
    """A scale above one never fits, so torchvision's fallback applies."""
    height, width = shape
    low, high = ASPECT_RATIOS
    tall, wide = min(height, round(width / low)), min(width, round(height * high))
    expected = [(height - tall) // 2, (width - wide) // 2, tall, wide]
    crops = draw_crops(jax.random.key(0), jnp.array([[0, 0, *shape]]), (1.5, 1.6))
    assert crops.tolist() == [expected]


def test_random_crops_depend_only_on_the_key():
    boxes = jnp.array([[0, 0, 32, 32]] * 8)
    first, again, other = (draw_crops(jax.random.key(i), boxes, (0.9, 1.0)) for i in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


class TestFromConfig:
    def test_clip(self):
        config = {"crop_size": {"height": 224, "width": 224}, "image_mean": [0.5] * 3}
        ours = Preprocessing.from_config(config)
        assert ours == Preprocessing(224, mean=(0.5, 0.5, 0.5)) and hash(ours)
        assert Preprocessing.from_config({"size": {"shortest_edge": 336}}).size == 336
        assert Preprocessing.from_config(config, size=112).size == 112
        assert Preprocessing.from_config({}) == Preprocessing(224)

    def test_without_normalisation_pixels_are_in_the_unit_interval(self):
        ours = Preprocessing.from_config({"size": 8, "crop_size": 8, "do_normalize": False})
        white = np.full((1, 8, 8, 3), 255, np.uint8)
        np.testing.assert_array_equal(evaluate(ours, white, whole(white)), 1.0)

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"resample": 0}, r"resample is 0: give one of 1 \(lanczos\), 2 \(bilinear\)"),
            ({"resample": "bicubic"}, "resample is 'bicubic'"),
            ({"rescale_factor": 0}, "rescale_factor is 0"),
            ({"image_mean": [0.5]}, r"image_mean is \[0.5\]: give three numbers"),
            ({"image_mean": 10**400}, "image_mean is 1"),
            ({"image_std": [0.5, 0, 0.5]}, "image_std .* no zeros"),
            ({"image_std": "0.5"}, "image_std is '0.5'"),
            ({"size": {"longest_edge": 224}}, "size is {'longest_edge': 224}: give"),
            ({"size": {"height": 224}}, "size is {'height': 224}: give"),
            ({"size": -1}, "size is -1: give"),
            ({"crop_size": {"height": 3, "width": 4}}, "crop_size .* the model takes squares"),
            ({"do_center_crop": None}, "do_center_crop false: images would not all become squares"),
            ({"size": [3, 4], "do_center_crop": False}, "would not all become squares"),
            ({"do_resize": False, "do_center_crop": False}, "both false: images would keep"),
            ({"do_pad": True, "pad_size": {"height": 9, "width": 9}}, "do_pad is true with pad"),
            (
                {"image_processor_type": "Siglip2ImageProcessor"},
                "Siglip2.* this type is not supported",
            ),
            ({"fill_color": 256, "resize_mode": "longest"}, "fill_color is 256"),
        ],
    )
    def test_unsupported_settings_are_refused_with_key_and_value(self, config, message):
        with pytest.raises(UserError, match=message) as raised:
            Preprocessing.from_config(config, 224)
        assert "\n" not in str(raised.value)
