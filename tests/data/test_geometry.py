"""Making images square on host and device, against Pillow's own resize and crop."""

from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from PIL.Image import Resampling

from magmax_jax.data import Preprocessing
from magmax_jax.inputs.geometry import (
    FILTERS,
    Exact,
    Geometry,
    LongSide,
    ShortSide,
    Unresized,
)
from magmax_jax.inputs.host_resize import centre_square, shrink
from magmax_jax.inputs.kernels import KERNELS

# Not compiled: every geometry would be a separate program.
evaluate, train = Preprocessing.evaluate, Preprocessing.train
SIZE = 28
WIDER = ShortSide(Fraction(8, 7))  # 32 -> 28
PIXELS = partial(Preprocessing, SIZE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1.0)
"""Leaves pixels in [0, 255]."""


def photo(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [127.5 + 127.5 * np.sin(x / a + y / b) for a, b in ((7, 5), (5, 11), (13, 4))]
    return np.stack(waves, axis=-1).astype(np.uint8)


def resized(image: np.ndarray, height: int, width: int, resample=Resampling.BICUBIC) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), resample))


def padded(image: np.ndarray, top: int, left: int, fill: int) -> np.ndarray:
    square = np.full((SIZE, SIZE, 3), fill, np.uint8)
    square[top : top + image.shape[0], left : left + image.shape[1]] = image
    return square


WIDE = photo(40, 61)
CASES = {
    "256 -> 224": (Geometry(WIDER), WIDE, resized(WIDE, 32, 48)[2:30, 10:38]),
    "200 -> 224": (
        Geometry(ShortSide(Fraction(25, 28))),
        WIDE,
        padded(resized(WIDE, 25, 38)[:, 5:33], 2, 0, 0),
    ),
    "squash": (Geometry(Exact()), WIDE, resized(WIDE, 28, 28)),
    "squash, bilinear": (
        Geometry(Exact(), Resampling.BILINEAR),
        WIDE,
        resized(WIDE, 28, 28, Resampling.BILINEAR),
    ),
    "squash 32 x 30": (
        Geometry(Exact((Fraction(32, 28), Fraction(30, 28)))),
        WIDE,
        resized(WIDE, 32, 30)[2:30, 1:29],
    ),
    # 40 * 28 / 61 = 18.4 -> 18, which leaves 10
    "longest": (Geometry(LongSide()), WIDE, padded(resized(WIDE, 18, 28), 5, 0, 0)),
    # 39 * 28 / 63 = 17.3 -> 17, which leaves 11: 5 above, 6 below
    "longest, grey": (
        Geometry(LongSide(), fill=127),
        photo(39, 63),
        padded(resized(photo(39, 63), 17, 28), 5, 0, 127),
    ),
    # 25 * 28 / 40 = 17.5 -> 18, the even one
    "longest, tall": (
        Geometry(LongSide()),
        photo(40, 25),
        padded(resized(photo(40, 25), 28, 18), 0, 5, 0),
    ),
    "as it is": (Geometry(Unresized()), WIDE, WIDE[6:34, 16:44]),
    # 9 rows are missing: 5 above, 4 below
    "as it is, smaller": (
        Geometry(Unresized()),
        photo(19, 61),
        padded(photo(19, 61)[:, 16:44], 5, 0, 0),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_host_gives_pillows_pixels_and_the_device_keeps_them(case):
    geometry, image, expected = CASES[case]
    square, box = centre_square(image, SIZE, geometry)
    np.testing.assert_array_equal(square, expected)
    shown = evaluate(PIXELS(geometry), square[None], jnp.array([box]))[0]
    np.testing.assert_allclose(shown, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_the_device_gives_pillows_pixels_up_to_rounding(case):
    """For a region inside a canvas of noise."""
    geometry, image, expected = CASES[case]
    height, width, _ = image.shape
    canvas = np.random.default_rng(0).integers(0, 256, (1, 70, 90, 3), np.uint8)
    canvas[0, 7 : 7 + height, 5 : 5 + width] = image
    ours = evaluate(PIXELS(geometry), canvas, jnp.array([[7, 5, height, width]]))[0]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=2)


@pytest.mark.parametrize("resample", FILTERS)
@pytest.mark.parametrize("shape", [(20, 17), (70, 90)])
def test_filters_match_pillow(resample, shape):
    assert set(KERNELS) == set(FILTERS)
    image = photo(*shape)
    ours = evaluate(PIXELS(Geometry(Exact(), resample)), image[None], jnp.array([[0, 0, *shape]]))
    theirs = resized(image, SIZE, SIZE, resample)
    np.testing.assert_allclose(ours[0], theirs, rtol=0, atol=2)


@pytest.mark.parametrize("case", CASES)
def test_training_without_crops_is_evaluation(case):
    geometry, image, _ = CASES[case]
    given = image[None], jnp.array([[0, 0, *image.shape[:2]]])
    ours = train(PIXELS(geometry), jax.random.key(0), *given, (1.0, 1.0))
    np.testing.assert_array_equal(ours, evaluate(PIXELS(geometry), *given))


@pytest.mark.parametrize("resize", [Exact(), LongSide()])
@pytest.mark.parametrize("shape", [(60, 300), (300, 60), (200, 200), (20, 30)])
def test_training_trims_nothing_if_evaluation_sees_the_whole_image(resize, shape):
    image = photo(*shape)
    canvas, box = shrink(image, SIZE, Geometry(resize))
    _, _, height, width = box
    assert canvas.shape == (52, 52, 3) and max(height, width) <= 52
    assert min(height, width) <= 35
    np.testing.assert_allclose(height / width, shape[0] / shape[1], rtol=0.1)
    np.testing.assert_array_equal(canvas[:height, :width], resized(image, height, width))


def test_crops_of_training_are_never_padded():
    image = np.full((40, 30, 3), 200, np.uint8)
    boxes = jnp.array([[0, 0, 40, 30]])
    ours = train(PIXELS(Geometry(LongSide())), jax.random.key(0), image[None], boxes, (0.3, 1.0))
    np.testing.assert_allclose(ours, 200, rtol=0, atol=1e-3)
