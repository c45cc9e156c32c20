"""16-bit matrix products on CPUs, in the one form that XLA computes at full speed there.

XLA:CPU passes a bfloat16 product to its library if both factors are row-major and the first's last
axis is contracted with the second's next-to-last; any other becomes a float32 product, at half the
speed or less. Gradients need those other products, so their factors are first copied into the right
layout: a transpose costs a few percent of a product.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def prefers_rows(dtype: DTypeLike) -> bool:
    """Whether `product` and `laid_out` pay off for this dtype: bfloat16 on a CPU."""
    return dtype == jnp.bfloat16 and jax.default_backend() == "cpu"


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """a b for bfloat16 (..., m, k) and (..., k, n), accumulated in float32: float32 (..., m, n).

    Without a barrier, XLA would move a transpose of the result into the product, for which there is
    no kernel: it compiles but fails when called (JAX 0.10 and 0.12).
    """
    return jax.lax.optimization_barrier(jnp.matmul(a, b, preferred_element_type=jnp.float32))


def laid_out(x: jax.Array, *axes: int) -> jax.Array:
    """`x.transpose(axes)`, copied to row-major order.

    XLA would treat a plain transpose as a strided view, but not a reshape. The barrier keeps the
    compiler from moving the transpose into the product that follows.
    """
    turned = x[None].transpose(0, *(axis + 1 for axis in axes))
    return jax.lax.optimization_barrier(turned.reshape(turned.shape[1:]))
