"""Attention over short sequences, by the fastest available kernel.

Letters in shapes: b batch, n tokens, h heads, e width of a head.
"""

import jax
import jax.numpy as jnp

from magmax_jax.models.layers.bfloat16_attention import attend_rows
from magmax_jax.models.layers.products import prefers_rows


def attend(q: jax.Array, k: jax.Array, v: jax.Array, *, causal: bool) -> jax.Array:
    """softmax(q k^T / sqrt(e)) v, (b, n, h, e) each; the softmax is computed in float32.

    Without `causal`, the numbers of queries and keys may differ, as in pooling.
    """
    if fits_cudnn(q) and q.shape == k.shape:
        return _cudnn(q, k, v, causal)
    return (attend_rows if prefers_rows(q.dtype) else _explicit)(q, k, v, causal)


def _cudnn(q: jax.Array, k: jax.Array, v: jax.Array, causal: bool) -> jax.Array:
    """`attend` where `fits_cudnn` holds."""
    n, lengths = q.shape[1], None
    if n % 2:
        # JAX 0.10 has no gradient for an odd number of tokens, which nearly all CLIPs have.
        q, k, v = (jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0))) for x in (q, k, v))
        # A constant computed from q, because under vmap JAX wants one per mapped element.
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

    Heads come before tokens, so that every product is a plain batched matmul. Weights are divided
    by their sum after the second product, on e instead of n numbers per token.
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
    """Whether cuDNN's flash attention can be used for queries (b, n, h, e).

    It needs an NVIDIA GPU (Ampere or later), a 16-bit dtype, and a head width that is a multiple of
    8 up to 128 (as in every published CLIP). It never materialises the (b, h, n, n) weights.
    """
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    if not half or q.shape[-1] % 8 or q.shape[-1] > 128 or jax.default_backend() != "gpu":
        return False
    capability = jax.local_devices()[0].compute_capability  # "9.0"; on AMD, "gfx942"
    return capability[0].isdigit() and float(capability) >= 8.0
