"""Square images in patches: the shape of a vision tower, and the input of its embedding.

Letters in shapes: b batch, n patches, p pixels along a side of one.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from magmax_jax.errors import UserError
from magmax_jax.inputs.rgb import channels_first
from magmax_jax.models.layers.transformer import TowerConfig


@dataclass(frozen=True)
class VisionConfig(TowerConfig):
    image_size: int
    patch_size: int

    @property
    def grid(self) -> int:
        """Patches along one side; a remainder of the image is ignored, as in a convolution."""
        return self.image_size // self.patch_size

    def at_size(self, image_size: int) -> "VisionConfig":
        """The same tower for square images of `image_size` pixels.

        Raises:
          UserError: the size differs and is not a multiple of the patch size.
        """
        patch = self.patch_size
        if image_size != self.image_size and (image_size < patch or image_size % patch):
            below = max(image_size // patch, 1) * patch
            raise UserError(
                f"image_size {image_size} is not a multiple of this model's patch size of {patch} "
                f"pixels: use {below} or {below + patch}"
            )
        return replace(self, image_size=image_size)


def cut_patches(config: VisionConfig, pixels: jax.Array) -> jax.Array:
    """Normalised pixels (b, height, width, 3) -> the values of each patch, (b, n, p * p * 3).

    A convolution with stride equal to its size is one matmul over these.

    Raises:
      UserError: the pixels are integers, channels first, or of another size.
    """
    size, patch, grid = config.image_size, config.patch_size, config.grid
    dtype = getattr(pixels, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise UserError(
            f"pixels are {dtype or type(pixels).__name__}, not normalised floats: "
            "call model.preprocess(images) first"
        )
    if mistake := channels_first(pixels.shape):
        raise UserError(mistake)
    if pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
        raise UserError(
            f"pixels have shape {pixels.shape}: this tower takes (b, {size}, {size}, 3); "
            "model.preprocess(images) makes them, and another size is set by "
            "from_pretrained(source, image_size=...)"
        )
    b = pixels.shape[0]
    pixels = pixels[:, : grid * patch, : grid * patch]
    pixels = pixels.reshape(b, grid, patch, grid, patch, 3).transpose(0, 1, 3, 2, 4, 5)
    return pixels.reshape(b, grid * grid, patch * patch * 3)
