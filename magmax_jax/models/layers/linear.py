"""Linear layers, whose gradient uses matrix products that are fast on CPUs in 16 bits.

Letters in shapes: r rows, d width in, m width out.
"""

import math

import jax
from flax import nnx

from magmax_jax.models.layers.products import laid_out, prefers_rows, product


class Linear(nnx.Linear):
    """`nnx.Linear`, computed by `linear` in bfloat16 on a CPU."""

    def __call__(self, inputs: jax.Array, out_sharding: None = None) -> jax.Array:
        """(..., d) -> (..., m)."""
        if self.dtype is None or not prefers_rows(self.dtype):
            return super().__call__(inputs, out_sharding)
        bias = None if self.bias is None else self.bias[...]
        return linear(inputs.astype(self.dtype), self.kernel[...], bias)


def linear(x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> jax.Array:
    """x kernel + bias in x's dtype, accumulated in float32.

    Args:
      x: bfloat16 (..., d).
      kernel: (d, m) of any float dtype, rounded to x's for the products. Its gradient is
        accumulated in float32 and returned in its own dtype, without rounding to x's.
      bias: (m,) or None.

    Returns:
      (..., m) of x's dtype.
    """
    y = _times(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), kernel)
    if bias is not None:
        y += bias
    return y.astype(x.dtype).reshape(*x.shape[:-1], kernel.shape[1])


@jax.custom_vjp
def _times(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """(r, d) and (d, m) -> float32 (r, m)."""
    return product(x, kernel.astype(x.dtype))


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _times(x, kernel), (x, kernel)


def _backward(
    kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    gradient = gradient.astype(x.dtype)
    # Without a barrier, the operation that produces them, an activation or a rounding, would be
    # fused into the transpose and run down columns, many times slower than along rows.
    x, rounded = jax.lax.optimization_barrier((x, kernel.astype(x.dtype)))
    of_x = product(gradient, laid_out(rounded, 1, 0))
    of_kernel = product(laid_out(x, 1, 0), gradient)
    return of_x.astype(x.dtype), of_kernel.astype(kernel.dtype)


_times.defvjp(_forward, _backward)
