"""Images as people see them: orientation and transparency; errors for damage and size."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from magmax_jax.errors import UserError
from magmax_jax.inputs.decode import decode_rgb, open_image, seen_shape
from magmax_jax.inputs.rgb import rgb_images

UPRIGHT = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
STORED = {  # what a camera stores for each orientation tag: EXIF 2.3, figure 7
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.swapaxes(0, 1),
    6: np.rot90(UPRIGHT),
    7: UPRIGHT[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90(UPRIGHT, -1),
}
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
ALPHA = np.random.default_rng(1).integers(0, 256, (12, 20), np.uint8)


def saved(pixels, kind="PNG", **options):
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation):
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def opened(data):
    return open_image(io.BytesIO(data), "here")


def chunk(kind, data):
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_photos_are_turned_upright(kind, options, orientation):
    data = saved(STORED[orientation], kind, exif=exif(orientation), **options)
    assert seen_shape(opened(data)) == (12, 20)
    np.testing.assert_array_equal(decode_rgb(opened(data), "here"), UPRIGHT)


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "AVIF"])
def test_photos_of_cameras_are_turned_upright(kind):
    data = saved(STORED[6], kind, exif=exif(6), quality=95)
    plain = decode_rgb(opened(saved(STORED[6], kind, quality=95)), "here")
    assert seen_shape(opened(data)) == (12, 20)
    np.testing.assert_array_equal(decode_rgb(opened(data), "here"), np.rot90(plain, -1))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_an_orientation_in_xmp_counts_if_exif_has_none(kind):
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP)
    options = {
        "PNG": {"pnginfo": text},
        "TIFF": {"tiffinfo": {700: XMP.encode()}},
        "WEBP": {"xmp": XMP.encode(), "lossless": True},
    }
    data = saved(STORED[6], kind, **options[kind])
    assert seen_shape(opened(data)) == (12, 20)
    np.testing.assert_array_equal(decode_rgb(opened(data), "here"), UPRIGHT)


LATE_XMP = b"XML:com.adobe.xmp" + bytes(5) + XMP.encode()


@pytest.mark.parametrize(
    ("kind", "data"),
    [(b"eXIf", exif(6).tobytes()[6:]), (b"iTXt", LATE_XMP)],
    ids=["exif", "xmp"],
)
def test_an_orientation_may_come_after_a_pngs_pixels(kind, data):
    png = saved(STORED[6])
    png = png[:-12] + chunk(b"tEXt", b"date:create\0today") + chunk(kind, data) + png[-12:]
    assert seen_shape(opened(png)) == (12, 20)
    np.testing.assert_array_equal(decode_rgb(opened(png), "here"), UPRIGHT)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_shapes_are_read_from_headers(kind, monkeypatch):
    def decode(*arguments, **options):
        raise AssertionError("decoded")

    for options, shape in (({"exif": exif(6)}, (12, 20)), ({}, (20, 12))):
        image = opened(saved(STORED[6], kind, **options))
        with monkeypatch.context() as patch:
            patch.setattr(type(image), "load", decode)
            assert seen_shape(image) == shape


@pytest.mark.parametrize("junk", [b"Exif\0\0junk, not a TIFF", exif(6).tobytes()[:-7]])
def test_with_damaged_exif_the_image_is_left_as_stored(junk):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = saved(UPRIGHT, "JPEG", exif=junk)
        assert seen_shape(opened(data)) == (12, 20)
        assert decode_rgb(opened(data), "here").shape == (12, 20, 3)


def on_white(rgb, alpha):
    share = alpha[..., None] / 255
    return share * rgb + (1 - share) * 255


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_transparency_is_composited_onto_white(kind):
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    data = saved(np.dstack([UPRIGHT, ALPHA]), kind, **options)
    expected = on_white(UPRIGHT, ALPHA)
    np.testing.assert_allclose(decode_rgb(opened(data), "here"), expected, rtol=0, atol=1)
    (image,) = rgb_images(opened(data))
    np.testing.assert_array_equal(image, decode_rgb(opened(data), "here"))


def test_grey_and_palette_images_are_also_composited_onto_white():
    grey = UPRIGHT[..., :1]
    data = saved(Image.merge("LA", [Image.fromarray(grey[..., 0]), Image.fromarray(ALPHA)]))
    expected = np.broadcast_to(on_white(grey, ALPHA), (12, 20, 3))
    np.testing.assert_allclose(decode_rgb(opened(data), "here"), expected, rtol=0, atol=1)

    palette = Image.fromarray(UPRIGHT).quantize(8)
    used = np.asarray(palette)
    for kind in ("PNG", "GIF"):
        found = decode_rgb(opened(saved(palette, kind, transparency=3)), "here")
        expected = np.where(used[..., None] == 3, 255, np.asarray(palette.convert("RGB")))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16"])
def test_a_transparent_colour_becomes_white(mode):
    if mode == "I;16":
        values = np.arange(240, dtype=np.uint16).reshape(12, 20) * 257
        image, hidden, expected = Image.fromarray(values), 257, values // 257
    else:
        image = Image.fromarray(UPRIGHT).convert(mode)
        expected = np.asarray(image)
        hidden = tuple(map(int, expected[0, 0])) if mode == "RGB" else int(expected[0, 0])
    expected = np.broadcast_to(np.atleast_3d(expected), (12, 20, 3)).copy()
    where = (0, 1) if mode == "I;16" else (0, 0)
    expected[(expected == expected[where]).all(-1)] = 255
    data = saved(image, transparency=hidden)
    np.testing.assert_array_equal(decode_rgb(opened(data), "here"), expected)


def test_opaque_alpha_does_not_change_a_bit():
    data = saved(np.dstack([UPRIGHT, np.full_like(ALPHA, 255)]))
    np.testing.assert_array_equal(decode_rgb(opened(data), "here"), UPRIGHT)


def test_an_image_in_memory_is_not_modified():
    image = opened(saved(np.dstack([STORED[6], np.rot90(ALPHA)]), exif=exif(6)))
    assert decode_rgb(image, "here").shape == (12, 20, 3)
    assert (image.size, image.mode, image.getexif()[0x0112]) == ((12, 20), "RGBA", 6)


def test_a_picture_beyond_pillows_limit_is_named():
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 1, 0, 0, 0, 0))
    data = (
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    )
    with pytest.raises(
        UserError, match=r"^here: Image size \(400000000 pixels\) exceeds limit of "
    ):
        opened(data)
    with pytest.raises(UserError, match="make the image smaller or remove it"):
        opened(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not an image format that Pillow knows"),
        (b"<html>404</html>", "not an image format that Pillow knows"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "not a readable image"),
        (saved(UPRIGHT)[:30], "not a readable image"),
    ],
)
def test_files_that_are_not_images_are_named(data, said):
    with pytest.raises(UserError, match=f"^here: .*{said}.*; replace or remove it$"):
        decode_rgb(opened(data), "here")
