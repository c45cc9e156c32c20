"""Resizing, cropping and normalising images on the device, inside the jitted step.

A resize is two small matrix products, one per axis. Its weights are those of Pillow's
`Image.resize`, for CLIP bicubic: Keys' cubic with a = -1/2, widened by the scale when shrinking
(antialiasing), cut off at the border of the region and renormalised there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from PIL.Image import Resampling

from magmax_jax.inputs.geometry import CLIPS, Geometry, Placed
from magmax_jax.inputs.kernels import KERNELS
from magmax_jax.inputs.processor_settings import (
    OPENAI_MEAN,
    OPENAI_STD,
    WHITE,
    Triple,
    read_settings,
)

ASPECT_RATIOS = (3 / 4, 4 / 3)
TRIES = 10  # random crops tried before the central one is used, as in torchvision


@dataclass(frozen=True)
class Preprocessing:
    """uint8 images -> the image tower's input; hashable, so it may be a static argument of jit.

    Shapes: b images on a canvas (H, W), with valid regions `boxes` int32 (b, 4) = [top, left,
    height, width]; pixels outside are ignored. Results are float32 (b, size, size, 3),
    (pixel / white - mean) / std. Either method costs 6 b size H (W + size) floating-point
    operations. Without a geometry, the short side is resized to `size` (bicubic) and the centre is
    cropped.
    """

    size: int
    mean: Triple = OPENAI_MEAN
    std: Triple = OPENAI_STD
    white: float = WHITE
    geometry: Geometry = CLIPS

    @classmethod
    def from_config(cls, config: Mapping[str, Any], size: int | None = None) -> "Preprocessing":
        """From the contents of a Hugging Face `preprocessor_config.json`.

        Args:
          config: settings of one of `processor_settings.PROCESSORS`, whose defaults apply to unset
            ones; CLIP's if it names none.
          size: replaces the processor's own; edges keep their ratio to it: 256 -> 224 becomes
            128 -> 112.

        Raises:
          UserError: it asks for something unsupported; the message names key and value.
        """
        found = read_settings(config, size)
        return cls(size or found.size, found.mean, found.std, found.white, found.geometry)

    def to_config(self) -> dict[str, Any]:
        """Complete settings with which transformers' CLIPImageProcessor computes the same."""
        return {
            **self.geometry.settings(self.size),
            "do_rescale": True,
            "rescale_factor": 1 / self.white,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "do_convert_rgb": True,
        }

    def evaluate(self, images: jax.Array, boxes: jax.Array) -> jax.Array:
        """The part of each image that the geometry shows, as in the model's own image processor.

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
        """torchvision's RandomResizedCrop: crops of random area, aspect ratio and position.

        Args:
          key: one PRNG key for the batch.
          images: uint8 (b, H, W, 3).
          boxes: int32 (b, 4).
          crop_scale: bounds on the crop's share of the valid area; (1, 1) means no augmentation,
            the same as `evaluate`.
        """
        return self.show(images, self.draw(key, boxes, crop_scale))

    def draw(self, key: jax.Array, boxes: jax.Array, crop_scale: tuple[float, float]) -> "Views":
        """The part of each image that `train` shows; same arguments as `train`."""
        if tuple(crop_scale) == (1, 1):
            return self._centre(boxes)
        top, left, height, width = random_crops(key, boxes, crop_scale).T
        rows = top, top + height, top, height / self.size
        return rows, (left, left + width, left, width / self.size)

    def show(self, images: jax.Array, views: "Views") -> jax.Array:
        """Resizes and normalises the `views` of uint8 images (b, H, W, 3)."""
        fill = self.geometry.fill if self.geometry.resize.pads(self.size) else None
        pixels = resize(images, self.size, *views, self.geometry.resample, fill)
        mean, std = (jnp.array(v).reshape(1, 1, 1, 3) for v in (self.mean, self.std))
        return (pixels / self.white - mean) / std

    def _centre(self, boxes: jax.Array) -> "Views":
        top, left, height, width = boxes.T
        rows, columns = self.geometry.placed(self.size, height, width, jnp.minimum)

        def centre(low: jax.Array, length: jax.Array, placed: Placed) -> Axis:
            step = length / placed.length
            return low, low + length, low + placed.start * step, step

        return centre(top, height, rows), centre(left, width, columns)


Axis = tuple[jax.Array, jax.Array, jax.Array, jax.Array]
"""The part of an input axis that an output axis shows, (b,) each: low, high, start, step."""
Views = tuple[Axis, Axis]
"""The parts of b images that are shown: rows, columns."""


def resize(
    images: jax.Array,
    size: int,
    rows: Axis,
    columns: Axis,
    resample: int = Resampling.BICUBIC,
    fill: int | None = None,
) -> jax.Array:
    """Resizes the regions of b images given by `rows` and `columns` (see `resize_weights`).

    Args:
      images: uint8 (b, H, W, 3).
      resample: Pillow's number of the filter.
      fill: value of output pixels outside the region; None if there are none.

    Returns:
      float32 (b, size, size, 3) in [0, 255], not rounded.
    """
    weights = jax.vmap(partial(resize_weights, resample=resample), in_axes=(None, None, 0, 0, 0, 0))
    across = weights(size, images.shape[2], *columns)  # (b, size, W)
    down = weights(size, images.shape[1], *rows)  # (b, size, H)
    pixels = images.astype(jnp.float32)
    # HIGHEST keeps accelerators from rounding pixels and weights to 8 or 10 bits.
    exact = jax.lax.Precision.HIGHEST
    pixels = jnp.einsum("bow,bhwc->bhoc", across, pixels, precision=exact)  # (b, H, size, 3)
    # Pillow stores the intermediate result in bytes, so overshoots at edges are clipped here, too.
    pixels = jnp.clip(pixels, 0, 255)
    pixels = jnp.einsum("boh,bhwc->bowc", down, pixels, precision=exact)  # (b, size, size, 3)
    pixels = jnp.clip(pixels, 0, 255)
    if fill is None:
        return pixels
    seen = jax.vmap(_seen, in_axes=(None, 0, 0, 0, 0))
    both = seen(size, *rows)[:, :, None, None] & seen(size, *columns)[:, None, :, None]
    return jnp.where(both, pixels, fill)


def resize_weights(
    out_size: int,
    in_size: int,
    low: ArrayLike,
    high: ArrayLike,
    start: ArrayLike,
    step: ArrayLike,
    resample: int = Resampling.BICUBIC,
) -> jax.Array:
    """Weights of a resize along one axis, as Pillow defines them.

    Output pixel o is centred at start + (o + 1/2) step, in units of input pixels; only the input
    pixels in [low, high) are used.

    Args:
      out_size, in_size: static lengths.
      low, high, start, step: scalars; a crop [low, high) resized whole has start = low and
        step = (high - low) / out_size.
      resample: Pillow's number of the filter.

    Returns:
      float32 (out_size, in_size), rows sum to one, or to zero if they use no pixels; the identity
      for low = start = 0, step = 1.
    """
    pixel = jnp.arange(in_size)[None, :]
    centre = _centres(out_size, start, step)[:, None]
    distance = (pixel + 0.5 - centre) / jnp.maximum(step, 1.0)
    inside = (pixel >= low) & (pixel < high)
    weights = jnp.where(inside, KERNELS[resample](distance), 0.0)
    total = weights.sum(axis=1, keepdims=True)
    return jnp.where(total > 0, weights / total, 0.0)


def _centres(out_size: int, start: ArrayLike, step: ArrayLike) -> jax.Array:
    """float32 (out_size,): centres of output pixels, in input pixels."""
    return jnp.asarray(start + (jnp.arange(out_size) + 0.5) * step)


def _seen(
    out_size: int, low: ArrayLike, high: ArrayLike, start: ArrayLike, step: ArrayLike
) -> jax.Array:
    """bool (out_size,): which output pixels are centred in [low, high)."""
    centre = _centres(out_size, start, step)
    return (centre >= low) & (centre < high)


def random_crops(key: jax.Array, boxes: jax.Array, scale: tuple[float, float]) -> jax.Array:
    """Draws RandomResizedCrop's boxes within `boxes`, for all images together.

    An area uniform in `scale` and an aspect ratio log-uniform in (3/4, 4/3) are drawn ten times;
    the first that fits is placed uniformly. If none fits, the largest central crop with a valid
    ratio is used.

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
