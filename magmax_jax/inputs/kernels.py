"""Pillow's resampling filters as functions on devices, by their numbers in `Image.Resampling`.

Each takes distances x from the centre of an output pixel to the centres of input pixels, in input
pixels, or in output pixels where the image shrinks (antialiasing). Source: Pillow's Resample.c.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from PIL.Image import Resampling


class Kernel(NamedTuple):
    """A filter.

    Attributes:
      weigh: signed distances -> weights, not normalised.
      widens: whether it widens when the image shrinks.
    """

    weigh: Callable[[jax.Array], jax.Array]
    widens: bool = True


def _box(x: jax.Array) -> jax.Array:
    return jnp.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)


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


KERNELS: dict[int, Kernel] = {
    Resampling.NEAREST: Kernel(_box, widens=False),
    Resampling.BOX: Kernel(_box),
    Resampling.BILINEAR: Kernel(_triangle),
    Resampling.HAMMING: Kernel(_hamming),
    Resampling.BICUBIC: Kernel(_keys_cubic),
    Resampling.LANCZOS: Kernel(_lanczos),
}
