"""Attention over short sequences, by the fastest kernel that computes it.

Letters in shapes: b batch, n tokens, h heads, e width of a head.
"""

import jax
import jax.numpy as jnp

from magmax_jax.models.layers.bfloat16_attention import attend_rows
from magmax_jax.models.layers.products import prefers_rows


def attend(q: jax.Array, k: jax.Array, v: jax.Array, *, causal: bool) -> jax.Array:
    """softmax(q k^T / sqrt(e)) v, (b, n, h, e) each; the softmax is computed in float32.

    Without `causal` there may be another number of queries than of keys, as in pooling.
    """
    if fits_cudnn(q) and q.shape == k.shape:
        return _cudnn(q, k, v, causal)
    return (attend_rows if prefers_rows(q.dtype) else _explicit)(q, k, v, causal)


def _cudnn(q: jax.Array, k: jax.Array, v: jax.Array, causal: bool) -> jax.Array:
    """`attend` for where `fits_cudnn` says so."""
    n, lengths = q.shape[1], None
    if n % 2:
        # JAX 0.10 refuses the gradient of an odd number of tokens, which nearly all CLIPs have.
        q, k, v = (jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0))) for x in (q, k, v))
        # A constant that comes from q: under vmap JAX wants one for each that is mapped over.
        lengths = jnp.where(jnp.isfinite(q[:, 0, 0, 0]), n, n).astype(jnp.int32)
    found = jax.nn.dot_product_attention(
        q,
        k,
        v,
        is_causal=causal,
        query_seq_lengths=lengths,
        key_value_seq_lengths=lengths,
        implementation="cudnn",
    )
    return found[:, :n]


def _explicit(q: jax.Array, k: jax.Array, v: jax.Array, causal: bool) -> jax.Array:
    """`attend` for any device.

    Heads come before tokens, so that every product is a plain batched one, and weights are divided
    by their sum after the second product, on e numbers a token instead of n.
    """
    n, scale = q.shape[1], q.shape[-1] ** -0.5
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))  # (b, h, n, e)
    scores = jnp.matmul(q, k.swapaxes(2, 3), preferred_element_type=jnp.float32) * scale
    if causal:
        scores = jnp.where(jnp.tri(n, dtype=bool), scores, -jnp.inf)
    highest = jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True))  # cancels out
    weights = jnp.exp(scores - highest)  # (b, h, n, n), in (0, 1]
    sums = weights.sum(axis=-1, keepdims=True)
    mixed = jnp.matmul(weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
    return (mixed / sums).astype(v.dtype).swapaxes(1, 2)


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
