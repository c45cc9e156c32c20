"""Image features as the zero-shot head takes them: of length one."""

import jax
import jax.numpy as jnp
from flax import nnx


def normalise(features: jax.Array) -> jax.Array:
    """Features (..., p) of any dtype -> float32 of length one."""
    features = features.astype(jnp.float32)
    return features / jnp.linalg.norm(features, axis=-1, keepdims=True)


def image_features(tower: nnx.GraphDef, params: nnx.State, pixels: jax.Array) -> jax.Array:
    """Features of preprocessed images (b, size, size, 3): float32 (b, p), of length one.

    Args:
      tower: the image tower without its parameters.
      params: its parameters.
    """
    return normalise(nnx.merge(tower, params)(pixels))
