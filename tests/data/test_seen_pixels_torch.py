"""Pixels of files match transformers 5: `load_image` turns upright, processors use white."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from magmax_jax.inputs.decode import decode_rgb, open_image

pytest.importorskip("torch")

from transformers.image_transforms import convert_to_rgb
from transformers.image_utils import load_image

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 64, 4), np.uint8)
RGBA = Image.fromarray(PIXELS)
RGB = Image.fromarray(PIXELS[..., :3])


def ours(path):
    with open_image(path, "here") as image:
        return decode_rgb(image, "here")


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path, kind, orientation):
    path, exif = str(tmp_path / f"a.{kind}"), Image.Exif()
    exif[0x0112] = orientation
    RGB.save(path, exif=exif)
    np.testing.assert_array_equal(ours(path), load_image(path))


@pytest.mark.parametrize(
    ("image", "name", "options"),
    [
        (RGBA, "a.png", {}),
        (RGBA, "a.webp", {"lossless": True}),
        (RGBA, "a.tif", {}),
        (RGBA, "a.avif", {}),
        (RGBA.convert("LA"), "la.png", {}),
        (RGB.quantize(16), "p.png", {"transparency": 3}),
        (RGB.quantize(16), "many.png", {"transparency": bytes([0, 90] * 8)}),
        (RGB.quantize(16), "p.gif", {"transparency": 3}),
        (RGB, "colour.png", {"transparency": tuple(map(int, PIXELS[0, 0, :3]))}),
        (RGB.convert("L"), "l.png", {"transparency": RGB.convert("L").getpixel((0, 0))}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_transparency(tmp_path, image, name, options):
    path = str(tmp_path / name)
    image.save(path, **options)
    with Image.open(path) as opened:
        expected = convert_to_rgb(ImageOps.exif_transpose(opened), return_numpy=True)
        assert (ours(path) != np.asarray(opened.convert("RGB"))).any()
    np.testing.assert_array_equal(ours(path), expected)
