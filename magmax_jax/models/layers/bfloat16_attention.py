"""Attention in bfloat16 on a CPU, with its gradient.

All products have the form described in `products`, and nothing as large as the weights is
transposed: a gradient that needs their transpose computes its own transpose instead, and transposes
that. Letters in shapes: b batch, n queries, m keys, h heads, e width of a head.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from magmax_jax.models.layers.kept import KEPT
from magmax_jax.models.layers.products import laid_out, product

Kept = tuple[jax.Array, ...]


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def attend_rows(q: jax.Array, k: jax.Array, v: jax.Array, causal: bool) -> jax.Array:
    """`attention.attend` of bfloat16 q (b, n, h, e), k and v (b, m, h, e): (b, n, h, e)."""
    return _forward(q, k, v, causal)[0]


def _scores(q: jax.Array, k: jax.Array, causal: bool) -> jax.Array:
    """float32 (b, h, n, m), -inf for keys that a query does not see."""
    scale = q.shape[-1] ** -0.5
    scores = scale * product(laid_out(q, 0, 2, 1, 3), laid_out(k, 0, 2, 3, 1))
    return jnp.where(jnp.tri(q.shape[1], dtype=bool), scores, -jnp.inf) if causal else scores


def _forward(q: jax.Array, k: jax.Array, v: jax.Array, causal: bool) -> tuple[jax.Array, Kept]:
    scores = _scores(q, k, causal)
    highest = scores.max(axis=-1, keepdims=True)
    # Without a barrier, each of the two readers would compute the exponentials.
    weights = jax.lax.optimization_barrier(jnp.exp(scores - highest).astype(v.dtype))
    sums = jnp.sum(weights, axis=-1, keepdims=True, dtype=jnp.float32)  # (b, h, n, 1)
    mixed = product(weights, laid_out(v, 0, 2, 1, 3)) / sums
    mixed = checkpoint_name(mixed.astype(v.dtype).swapaxes(1, 2), KEPT)
    logarithm = checkpoint_name(highest + jnp.log(sums), KEPT)
    return mixed, (q, k, v, mixed, logarithm)


def _backward(
    causal: bool, kept: Kept, gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    q, k, v, mixed, logarithm = kept
    dtype, scale = q.dtype, q.shape[-1] ** -0.5
    weights = jnp.exp(_scores(q, k, causal) - logarithm).astype(dtype)
    weights = jax.lax.optimization_barrier(weights)  # has two readers, as above
    # The gradient of a softmax's input is w (g - sum(w g)), and sum(w g) is g's product with the
    # output.
    along = jnp.einsum("bnhe,bnhe->bhn", gradient, mixed, preferred_element_type=jnp.float32)
    of_weights = product(laid_out(gradient, 0, 2, 1, 3), laid_out(v, 0, 2, 3, 1))
    of_scores = scale * weights * (of_weights - along[..., None])  # float32 (b, h, n, m)
    of_scores = jax.lax.optimization_barrier(of_scores.astype(dtype))
    of_v = product(laid_out(gradient, 0, 2, 3, 1), weights)  # (b, h, e, m)
    of_q = product(of_scores, laid_out(k, 0, 2, 1, 3))  # (b, h, n, e)
    of_k = product(laid_out(q, 0, 2, 3, 1), of_scores)  # (b, h, e, m)
    return (
        of_q.astype(dtype).transpose(0, 2, 1, 3),
        of_k.astype(dtype).transpose(0, 3, 1, 2),
        of_v.astype(dtype).transpose(0, 3, 1, 2),
    )


attend_rows.defvjp(_forward, _backward)
