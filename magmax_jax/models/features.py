"""Image features for the zero-shot head, normalised to unit length."""

import jax
from flax import nnx

from magmax_jax.models.auto_axes import on_any_axes
from magmax_jax.models.layers.normalise import normalise


@on_any_axes(batch=2)
def image_features(tower: nnx.GraphDef, params: nnx.State, pixels: jax.Array) -> jax.Array:
    """Features of preprocessed images (b, size, size, 3): float32 (b, p), of unit length.

    Args:
      tower: the image tower without its parameters.
      params: its parameters.
    """
    return normalise(nnx.merge(tower, params)(pixels))
