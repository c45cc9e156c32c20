"""Pictures of digits and letters, drawn on the device, and their true captions.

Letters in shapes: b batch, f fonts, g characters, k classes, l looks, s side of an image.
"""

import itertools
import string
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from scipy.ndimage import distance_transform_edt

from magmax_jax.inputs.preprocessing import resize_weights

FONTS = """DejaVuSans DejaVuSans-Bold DejaVuSans-BoldOblique DejaVuSans-Oblique
    DejaVuSansMono DejaVuSansMono-Bold DejaVuSansMono-BoldOblique DejaVuSansMono-Oblique
    DejaVuSerif DejaVuSerif-Bold DejaVuSerif-BoldItalic DejaVuSerif-Italic
    STIXGeneral STIXGeneralBol STIXGeneralBolIta cmb10 cmmi10 cmr10 cmti10 cmtt10""".split()
"""Training fonts. Both lists together are all fonts in matplotlib with digits and Latin letters."""
HELD_OUT_FONTS = ["STIXGeneralItalic", "cmss10"]

CLASSES = string.digits + string.ascii_lowercase
"""CLIP's tokenizer lower-cases, so "A" and "a" are one class, the letter a."""
CHARACTERS = CLASSES + CLASSES.upper()
"""Character i has class i % k; digits are listed twice, so that classes are drawn evenly."""
NUMBER_WORDS = "zero one two three four five six seven eight nine".split()

LOOKS = ("", "blurry", "pixelated", "noisy", "handwritten", "tilted", "bold", "small", "faint")
"""What a caption may say about a picture; the first, empty, is true of all."""
FREQUENCIES = np.array([1, 0.2, 0.4, 0.2, 0.4, 0.2, 0.3, 0.2, 0.1])

CELL, MARGIN = 72, 12
"""Sides in pixels of an atlas cell and of the empty border around its glyph."""
RESOLUTIONS = (8, 10, 12, 16)
"""Sides in pixels of pixelated pictures before they are enlarged again."""


def captions(index: int) -> list[list[str]]:
    """Captions of class `index`, a list for each look; all lists have the same length.

    The very first is plain: MNIST's published template, or its equivalent for letters.
    """
    digit = index < 10
    kinds = ("number", "digit") if digit else ("letter", "character")
    names = (CLASSES[index], NUMBER_WORDS[index] if digit else CLASSES[index])
    styles = ('a {look}photo of the {kind}: "{name}".', "a {look}{kind} {name}.")
    return [
        [
            style.format(look=f"{look} ".lstrip(), kind=kind, name=name)
            for style in styles
            for kind in kinds
            for name in names
        ]
        for look in LOOKS
    ]


def make_atlas(fonts: list[str]) -> jax.Array:
    """Signed distances to the outline, positive inside, float32 (f, g, CELL, CELL).

    Each glyph is centred and its longer side spans [-1, 1], the unit of the distances.
    """
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    paths = [str(folder / f"{font}.ttf") for font in fonts]
    return jnp.stack([jnp.stack([_distances(path, c) for c in CHARACTERS]) for path in paths])


def _distances(path: str, character: str) -> np.ndarray:
    side, span = 2 * CELL, 2 * (CELL - 2 * MARGIN)  # drawn at twice the atlas's resolution
    sheet = Image.new("L", (600, 600))
    ImageDraw.Draw(sheet).text((200, 200), character, 255, ImageFont.truetype(path, 200))
    glyph = ImageOps.contain(sheet.crop(sheet.getbbox()), (span, span))
    image = Image.new("L", (side, side))
    image.paste(glyph, ((side - glyph.width) // 2, (side - glyph.height) // 2))
    inside = np.asarray(image) > 127
    # Distance to the nearest pixel of the other kind, whose border is half a pixel closer.
    signed = distance_transform_edt(inside) - distance_transform_edt(~inside) - (inside - 0.5)
    return signed.reshape(CELL, 2, CELL, 2).mean(axis=(1, 3), dtype=np.float32) / (span / 2)


@partial(jax.jit, static_argnames=("b", "size"))
def draw(
    key: jax.Array, atlas: jax.Array, b: int, size: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """b random pictures.

    Returns:
      Pixels float32 (b, size, size, 3) in [-1, 1]; classes int32 (b,); bool (b, l), whether each
      look is true of the picture.
    """
    return jax.vmap(partial(_picture, atlas=atlas, s=size))(jax.random.split(key, b))


def _picture(key: jax.Array, atlas: jax.Array, s: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    keys = map(partial(jax.random.fold_in, key), itertools.count())

    def uniform(low: float, high: float, *shape: int) -> jax.Array:
        return jax.random.uniform(next(keys), shape, minval=low, maxval=high)

    def normal(*shape: int) -> jax.Array:
        return jax.random.normal(next(keys), shape)

    def integer(n: int) -> jax.Array:
        return jax.random.randint(next(keys), (), 0, n)

    looks = uniform(0, 1, len(LOOKS)) < FREQUENCIES
    strength = jnp.where(looks, uniform(0.5, 1, len(LOOKS)), uniform(0, 0.3, len(LOOKS)))
    _, blurry, _, noisy, handwritten, tilted, bold, small, faint = strength

    # Position of each pixel in its glyph (s, s, 2): shifted, wobbled, rotated, sheared, scaled.
    axis = (jnp.arange(s) + 0.5) * (2 / s) - 1
    at = jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"), axis=-1)
    scale = (1 - 0.55 * small) * uniform(0.75, 1, 2)
    at -= uniform(-1, 1, 2) * (1 - scale)
    wave = _enlarging(s, 4)
    at += 0.14 * handwritten * jnp.einsum("oi,pj,ijc->opc", wave, wave, normal(4, 4, 2))
    angle = 0.45 * tilted * jnp.sign(uniform(-1, 1))
    cos, sin, shear = jnp.cos(angle), jnp.sin(angle), uniform(-0.3, 0.3)
    at = at @ jnp.array([[cos, sin], [-sin, cos]]) @ jnp.array([[1, shear], [0, 1]]) / scale

    character = integer(len(CHARACTERS))
    cell = atlas[integer(len(atlas)), character]
    rows, columns = jnp.moveaxis(at * (CELL / 2 - MARGIN) + (CELL - 1) / 2, -1, 0)
    distance = jax.scipy.ndimage.map_coordinates(cell, [rows, columns], order=1, mode="nearest")
    ink = jax.nn.sigmoid((distance + 0.12 * bold + uniform(-0.03, 0.02)) * (1.5 * s))

    # Blurring, shrinking and enlarging are matrix products along both axes.
    blur = jnp.exp(-jnp.square((axis[:, None] - axis) / (0.01 + 0.12 * blurry)))
    coarse = jnp.stack(
        [_enlarging(s, r) @ resize_weights(r, s, 0, s, 0, s / r) for r in RESOLUTIONS]
    )
    pixelate = jnp.where(
        looks[LOOKS.index("pixelated")], coarse[integer(len(RESOLUTIONS))], jnp.eye(s)
    )
    lens = pixelate @ (blur / blur.sum(axis=1, keepdims=True))
    ink = jnp.clip(lens @ ink @ lens.T, 0, 1)[..., None]

    contrast = 1 - 0.8 * faint
    tint = jnp.where(uniform(0, 1) < 0.5, 1 + 0.15 * normal(3), 1)
    pixels = uniform(0, 1) * (1 - contrast) + contrast * tint * ink
    pixels = jnp.where(uniform(0, 1) < 0.5, pixels, 1 - pixels) + 0.2 * noisy * normal(s, s, 1)
    return jnp.clip(pixels, 0, 1) * 2 - 1, character % len(CLASSES), looks


def _enlarging(s: int, r: int) -> jax.Array:
    """The matrix (s, r) that resizes r pixels to s."""
    return resize_weights(s, r, 0, r, 0, r / s)
