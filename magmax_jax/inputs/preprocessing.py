"""Resizing, cropping and normalising images on the device, inside the jitted step.

A resize is two small matrix products, one per axis. Its weights are those of Pillow's
`Image.resize(BICUBIC)`: Keys' cubic with a = -1/2, widened by the scale when shrinking
(antialiasing), cut off at the border of the region and renormalised there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from magmax_jax.errors import UserError

ASPECT_RATIOS = (3 / 4, 4 / 3)
TRIES = 10  # random crops drawn before the central one is taken, as in torchvision


@dataclass(frozen=True)
class Preprocessing:
    """uint8 images -> what the image tower takes; hashable, so it may be a static argument of jit.

    Shapes: b images of a canvas (H, W), of which `boxes` int32 (b, 4) = [top, left, height, width]
    is the valid region; pixels outside never count. Results are float32 (b, size, size, 3),
    (pixel / 255 - mean) / std. Either method costs 6 b size H (W + size) floating-point operations.
    """

    size: int
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], size: int | None = None) -> "Preprocessing":
        """From the contents of a Hugging Face `preprocessor_config.json`.

        `size` overrides the file's crop size. Without `do_normalize`, pixels stay in [0, 1].

        Raises:
          UserError: it asks for another rescaling or interpolation than CLIP's, or names no size.
        """
        where = "preprocessor_config.json"
        factor = config.get("rescale_factor", 1 / 255)
        if not config.get("do_rescale", True) or abs(factor * 255 - 1) > 1e-6:
            raise UserError(
                f"{where}: do_rescale or rescale_factor ask for a factor other than 1/255"
            )
        if config.get("resample", 3) != 3:
            raise UserError(
                f"{where}: resample is {config['resample']}; only bicubic (3) is supported"
            )
        if size is None:
            size = _side(config.get("crop_size")) or _side(config.get("size"))
        if not size:
            raise UserError(f"{where}: neither crop_size nor size is one square; pass size")
        if not config.get("do_normalize", True):
            return cls(size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        mean, std = config.get("image_mean", cls.mean), config.get("image_std", cls.std)
        return cls(size, tuple(mean), tuple(std))

    def evaluate(self, images: jax.Array, boxes: jax.Array) -> jax.Array:
        """Resizes the short side to `size` and crops the centre, as CLIPImageProcessor does.

        Args:
          images: uint8 (b, H, W, 3).
          boxes: int32 (b, 4).
        """
        return self.show(images, self._centre(boxes))

    def train(
        self,
        key: jax.Array,
        images: jax.Array,
        boxes: jax.Array,
        crop_scale: tuple[float, float],
    ) -> jax.Array:
        """torchvision's RandomResizedCrop, bicubic: crops of random area and aspect ratio.

        Args:
          key: one PRNG key for the batch.
          images: uint8 (b, H, W, 3).
          boxes: int32 (b, 4).
          crop_scale: bounds of the crop's share of the valid area; (1, 1) means no augmentation,
            the same as `evaluate`.
        """
        return self.show(images, self.draw(key, boxes, crop_scale))

    def draw(self, key: jax.Array, boxes: jax.Array, crop_scale: tuple[float, float]) -> "Views":
        """What `train` shows of each image; arguments are those of `train`."""
        if tuple(crop_scale) == (1, 1):
            return self._centre(boxes)
        top, left, height, width = random_crops(key, boxes, crop_scale).T
        rows = top, top + height, top, height / self.size
        return rows, (left, left + width, left, width / self.size)

    def show(self, images: jax.Array, views: "Views") -> jax.Array:
        """Resizes and normalises what `views` tell of uint8 images (b, H, W, 3)."""
        pixels = resize(images, self.size, *views)
        mean, std = (jnp.array(v).reshape(1, 1, 1, 3) for v in (self.mean, self.std))
        return (pixels / 255 - mean) / std

    def _centre(self, boxes: jax.Array) -> "Views":
        height, width = boxes[:, 2], boxes[:, 3]
        short = jnp.minimum(height, width)

        def centre(low: jax.Array, length: jax.Array) -> Axis:
            resized = self.size * length // short
            step = length / resized
            return low, low + length, low + (resized - self.size) // 2 * step, step

        return centre(boxes[:, 0], height), centre(boxes[:, 1], width)


Axis = tuple[jax.Array, jax.Array, jax.Array, jax.Array]
"""What an output axis shows of an input axis, (b,) each: low, high, start, step."""
Views = tuple[Axis, Axis]
"""What b images show: rows, columns."""


def resize(images: jax.Array, size: int, rows: Axis, columns: Axis) -> jax.Array:
    """Resizes the regions of b images that `rows` and `columns` tell (see `resize_weights`).

    Args:
      images: uint8 (b, H, W, 3).

    Returns:
      float32 (b, size, size, 3) in [0, 255], not rounded.
    """
    weights = jax.vmap(resize_weights, in_axes=(None, None, 0, 0, 0, 0))
    across = weights(size, images.shape[2], *columns)  # (b, size, W)
    down = weights(size, images.shape[1], *rows)  # (b, size, H)
    pixels = images.astype(jnp.float32)
    # HIGHEST keeps accelerators from rounding pixels and weights to 8 or 10 bits.
    exact = jax.lax.Precision.HIGHEST
    pixels = jnp.einsum("bow,bhwc->bhoc", across, pixels, precision=exact)  # (b, H, size, 3)
    # Pillow holds the half-way result in bytes: overshoots at edges are clipped here too.
    pixels = jnp.clip(pixels, 0, 255)
    pixels = jnp.einsum("boh,bhwc->bowc", down, pixels, precision=exact)  # (b, size, size, 3)
    return jnp.clip(pixels, 0, 255)


def resize_weights(
    out_size: int,
    in_size: int,
    low: ArrayLike,
    high: ArrayLike,
    start: ArrayLike,
    step: ArrayLike,
) -> jax.Array:
    """Weights of a bicubic resize along one axis, as Pillow defines them.

    Output pixel o is centred at start + (o + 1/2) step, in units of input pixels; only the input
    pixels of [low, high) are seen.

    Args:
      out_size, in_size: static lengths.
      low, high, start, step: scalars; a crop [low, high) resized whole has start = low and
        step = (high - low) / out_size.

    Returns:
      float32 (out_size, in_size), rows sum to one; the identity for low = start = 0, step = 1.
    """
    pixel = jnp.arange(in_size)[None, :]
    centre = start + (jnp.arange(out_size)[:, None] + 0.5) * step
    distance = jnp.abs(pixel + 0.5 - centre) / jnp.maximum(step, 1.0)
    inside = (pixel >= low) & (pixel < high)
    weights = jnp.where(inside, _keys_cubic(distance), 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def random_crops(key: jax.Array, boxes: jax.Array, scale: tuple[float, float]) -> jax.Array:
    """Draws RandomResizedCrop's boxes within `boxes`, for all images at once.

    An area uniform in `scale` and an aspect ratio log-uniform in (3/4, 4/3) are drawn ten times;
    the first that fits is placed uniformly. If none fits, the largest central crop of a valid
    ratio is taken.

    Args:
      key: PRNG key.
      boxes: int32 (b, 4), [top, left, height, width].

    Returns:
      int32 (b, 4), boxes inside `boxes`.
    """
    top, left, height, width = boxes[:, :, None].transpose(1, 0, 2)  # (b, 1) each
    area_key, ratio_key, place_key = jax.random.split(key, 3)
    draws = (len(boxes), TRIES)
    area = height * width * jax.random.uniform(area_key, draws, minval=scale[0], maxval=scale[1])
    low, high = jnp.log(jnp.array(ASPECT_RATIOS))
    ratio = jnp.exp(jax.random.uniform(ratio_key, draws, minval=low, maxval=high))
    crop_height = jnp.round(jnp.sqrt(area / ratio)).astype(jnp.int32)
    crop_width = jnp.round(jnp.sqrt(area * ratio)).astype(jnp.int32)
    fits = (crop_height > 0) & (crop_height <= height) & (crop_width > 0) & (crop_width <= width)
    first = jnp.argmax(fits, axis=1, keepdims=True)
    found = fits.any(axis=1, keepdims=True)
    # The fall-back: the whole region, its long side cut to the nearest valid aspect ratio.
    widest, tallest = jnp.round(height * ASPECT_RATIOS[1]), jnp.round(width / ASPECT_RATIOS[0])
    central_height = jnp.minimum(height, tallest.astype(jnp.int32))
    central_width = jnp.minimum(width, widest.astype(jnp.int32))

    crop_height = jnp.where(found, jnp.take_along_axis(crop_height, first, 1), central_height)
    crop_width = jnp.where(found, jnp.take_along_axis(crop_width, first, 1), central_width)
    place = jax.random.uniform(place_key, (2, len(boxes), 1))
    room = jnp.stack([height - crop_height, width - crop_width])
    # uniform() < 1, but its product with a large integer may round up to room + 1
    random = jnp.minimum(jnp.floor(place * (room + 1)).astype(jnp.int32), room)
    down, right = jnp.where(found[None], random, room // 2)
    return jnp.concatenate([top + down, left + right, crop_height, crop_width], axis=1)


def _keys_cubic(x: jax.Array) -> jax.Array:
    """Keys' cubic convolution kernel for a = -1/2, x >= 0 (Keys 1981, eq. 15)."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return jnp.where(x < 1, near, jnp.where(x < 2, far, 0.0))


def _side(size: Any) -> int | None:
    """The side of a square size as Hugging Face writes it: 224, {"shortest_edge": 224}, ..."""
    if isinstance(size, Mapping):
        sides = {size[k] for k in ("shortest_edge", "height", "width") if k in size}
        return sides.pop() if len(sides) == 1 else None
    return size
