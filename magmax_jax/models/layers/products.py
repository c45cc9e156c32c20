"""Matrix products of 16 bits on CPUs, in the one form that XLA computes at full speed there.

XLA:CPU hands a product of bfloat16 to its library if both factors lie row by row and the first's
last axis meets the second's next to last; any other becomes a product of float32, at half the speed
and less. Gradients' products are of the other kind, so their factors are laid out anew first: a
transpose is a few percent of a product.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def prefers_rows(dtype: DTypeLike) -> bool:
    """Whether products in this dtype are worth `product` and `laid_out`: bfloat16 on a CPU."""
    return dtype == jnp.bfloat16 and jax.default_backend() == "cpu"


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """a b for bfloat16 (..., m, k) and (..., k, n), summed up in float32: float32 (..., m, n).

    Without a barrier, a transpose of the result would be moved into the product, which then has no
    kernel: compiled, it fails when it is called (JAX 0.10 and 0.12).
    """
    return jax.lax.optimization_barrier(jnp.matmul(a, b, preferred_element_type=jnp.float32))


def laid_out(x: jax.Array, *axes: int) -> jax.Array:
    """`x.transpose(axes)`, row by row in memory.

    A transpose that is handed to XLA is a view, whose columns are far apart; a reshape is not. The
    barrier keeps the compiler from moving the transpose into the product that follows.
    """
    turned = x[None].transpose(0, *(axis + 1 for axis in axes))
    return jax.lax.optimization_barrier(turned.reshape(turned.shape[1:]))
