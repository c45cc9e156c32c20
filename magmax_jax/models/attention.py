"""Attention over short sequences, by the fastest kernel that computes it.

Letters in shapes: b batch, n tokens, h heads, e width of a head.
"""

import jax
import jax.numpy as jnp


def attend(q: jax.Array, k: jax.Array, v: jax.Array, *, causal: bool) -> jax.Array:
    """softmax(q k^T / sqrt(e)) v, (b, n, h, e) each; the softmax is computed in float32."""
    kernel = "cudnn" if fits_cudnn(q) else "xla"
    return jax.nn.dot_product_attention(q, k, v, is_causal=causal, implementation=kernel)


def fits_cudnn(q: jax.Array) -> bool:
    """Whether cuDNN's flash attention computes queries (b, n, h, e) here.

    It wants an NVIDIA GPU of the Ampere generation or later, 16 bits, and heads of a multiple of 8
    up to 128 (which every published CLIP has); it never holds the (b, h, n, n) weights.
    """
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    if not half or q.shape[-1] % 8 or q.shape[-1] > 128 or jax.default_backend() != "gpu":
        return False
    capability = jax.local_devices()[0].compute_capability  # "9.0"; on AMD, "gfx942"
    return capability[0].isdigit() and float(capability) >= 8.0
