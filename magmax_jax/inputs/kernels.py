"""Pillow's resampling filters as functions on devices, by their numbers in `Image.Resampling`.

Each takes signed distances from the centre of an output pixel to the centres of input pixels, in
input pixels, or in output pixels if the image shrinks (antialiasing). Source: Pillow's Resample.c.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from PIL.Image import Resampling


def _triangle(x: jax.Array) -> jax.Array:
    return jnp.maximum(1 - jnp.abs(x), 0)


def _hamming(x: jax.Array) -> jax.Array:
    x = jnp.abs(x)
    return jnp.where(x < 1, jnp.sinc(x) * (0.54 + 0.46 * jnp.cos(jnp.pi * x)), 0.0)


def _keys_cubic(x: jax.Array) -> jax.Array:
    """Keys' cubic convolution kernel for a = -1/2 (Keys 1981, eq. 15)."""
    x = jnp.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return jnp.where(x < 1, near, jnp.where(x < 2, far, 0.0))


def _lanczos(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.abs(x) < 3, jnp.sinc(x) * jnp.sinc(x / 3), 0.0)


KERNELS: dict[int, Callable[[jax.Array], jax.Array]] = {
    Resampling.BILINEAR: _triangle,
    Resampling.HAMMING: _hamming,
    Resampling.BICUBIC: _keys_cubic,
    Resampling.LANCZOS: _lanczos,
}
"""Distances -> unnormalised weights; one for each of `geometry.FILTERS`."""
