"""Normalises features to unit length."""

import jax
import jax.numpy as jnp


def normalise(features: jax.Array) -> jax.Array:
    """Features (..., p) of any dtype -> float32 of unit length."""
    features = features.astype(jnp.float32)
    return features / jnp.linalg.norm(features, axis=-1, keepdims=True)
