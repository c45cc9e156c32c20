"""Scaled JPEG decoding: its size, its distance from the full decode, and which sources offer it."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
import sklearn
from PIL import Image

from magmax_jax.data.concat import Joined
from magmax_jax.data.pipeline.decode import read
from magmax_jax.data.readers.folder import ImageFiles
from magmax_jax.data.readers.tfds_records import Records
from magmax_jax.errors import UserError
from magmax_jax.inputs.decode import decode_rgb
from magmax_jax.inputs.host_resize import for_training, shrink

PHOTO = Path(sklearn.__file__).parent / "datasets" / "images" / "china.jpg"


def encoded(kind="JPEG", height=123, width=161, mode="RGB", **options):
    """A smooth picture, so the result of any decode is known."""
    down, across = np.mgrid[:height, :width]
    pixels = np.stack([down + 20, across + 20, down // 2 + 60], -1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data, least=None):
    return decode_rgb(Image.open(io.BytesIO(data)), "here", least)


@pytest.mark.parametrize(
    ("least", "scale"), [(None, 1), (123, 1), (62, 1), (61, 2), (31, 2), (30, 4), (16, 4), (15, 8)]
)
def test_a_jpeg_is_decoded_no_smaller_than_asked(least, scale):
    image = decoded(encoded(), least)
    assert image.shape == (math.ceil(123 / scale), math.ceil(161 / scale), 3)
    assert image.dtype == np.uint8 and min(image.shape[:2]) >= (least or 0)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_other_formats_are_decoded_whole(kind):
    data = encoded(kind)
    np.testing.assert_array_equal(decoded(data, 10), decoded(data))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_every_kind_of_jpeg_becomes_rgb(mode):
    assert decoded(encoded(mode=mode), 30).shape == (31, 41, 3)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_fraction_is_the_picture_downscaled(progressive):
    data = encoded(quality=95, subsampling=0, progressive=progressive, height=128, width=160)
    small = np.asarray(Image.fromarray(decoded(data)).reduce(4)).astype(int)
    assert abs(decoded(data, 32).astype(int) - small).max() <= 3


def test_a_fraction_of_a_sideways_jpeg_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    data = encoded(exif=exif)
    np.testing.assert_array_equal(decoded(data, 61), np.rot90(decoded(encoded(), 61), -1))


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "I;16"), ("TIFF", "I;16"), ("TIFF", "I;16B")])
def test_grey_of_16_bits_keeps_its_shades(kind, mode):
    values = (np.arange(256, dtype=np.uint16) * 257).reshape(8, 32)
    buffer = io.BytesIO()
    order = ">u2" if mode == "I;16B" else "<u2"
    Image.frombytes(mode, (32, 8), values.astype(order).tobytes()).save(buffer, kind)
    image = Image.open(buffer)
    assert image.mode == mode
    expected = np.repeat(np.arange(256, dtype=np.uint8).reshape(8, 32, 1), 3, axis=2)
    np.testing.assert_array_equal(decode_rgb(image, "here", 4), expected)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_32_bits_are_refused(mode):
    buffer = io.BytesIO()
    Image.new(mode, (8, 8), 1).save(buffer, "TIFF")
    with pytest.raises(UserError, match=rf"^here: 32-bit pixels \(mode {mode}\): save it with 8"):
        decoded(buffer.getvalue())


@pytest.mark.parametrize("least", [None, 30])
def test_damage_is_named(least):
    with pytest.raises(UserError, match="here: the image is damaged"):
        decoded(encoded()[:700], least)


def test_views_pass_on_reduced_reads(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded())
    files = ImageFiles((str(path),))
    records = Records("toy", [{"image": b""}, {"image": encoded()}], np.array([1]))
    array = np.zeros((1, 123, 161, 3), np.uint8)
    joined = Joined((array, files, records), np.array([0, 1, 2]), (None, None, None))
    for images, index in ((files, 0), (records, 0), (joined, 1), (joined, 2)):
        np.testing.assert_array_equal(images[index], decoded(encoded()))
        np.testing.assert_array_equal(read(images, index), decoded(encoded()))
        np.testing.assert_array_equal(read(images, index, 30), decoded(encoded(), 30))
    np.testing.assert_array_equal(read(joined, 0, 30), array[0])  # an array offers no smaller read


@pytest.mark.parametrize("size", [32, 64])
def test_a_training_image_is_close_to_the_one_from_the_full_decode(size):
    data = PHOTO.read_bytes()
    fit = for_training(None, size)
    small = decoded(data, fit.least)
    assert small.size < decoded(data).size / 3
    (ours, box), (exact, exact_box) = fit.apply(small), shrink(decoded(data), size)
    assert box == exact_box
    assert abs(ours.astype(int) - exact).mean() < 1.5  # of 255
