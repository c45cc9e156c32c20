"""The end of SigLIP's image tower: one learned query attends to all patches.

Zhai et al., 2022 (arXiv 2106.04560), "multi-head attention pooling". Letters in shapes: b batch,
n patches, d width, h heads.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from magmax_jax.models.layers.activations import ACTIVATIONS
from magmax_jax.models.layers.attention import attend
from magmax_jax.models.layers.linear import Linear
from magmax_jax.models.layers.transformer import TowerConfig, layer_norm


class AttentionPooling(nnx.Module):
    """y = attention(probe, x), then y + mlp(norm(y)); q, k and v are one kernel."""

    def __init__(self, config: TowerConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        d, m = config.width, config.mlp
        inner = nnx.initializers.normal(d**-0.5)
        self.probe = nnx.Param(inner(rngs.params(), (d,)))
        self.qkv = Linear(d, 3 * d, kernel_init=inner, dtype=dtype, rngs=rngs)
        self.out = Linear(d, d, kernel_init=inner, dtype=dtype, rngs=rngs)
        self.norm = layer_norm(config, dtype, rngs)
        self.fc1 = Linear(d, m, kernel_init=inner, dtype=dtype, rngs=rngs)
        self.fc2 = Linear(
            m, d, kernel_init=nnx.initializers.normal(m**-0.5), dtype=dtype, rngs=rngs
        )
        self.heads = config.heads
        self.activation = config.activation
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Tokens (b, n, d) -> (b, d)."""
        b, n, d = x.shape
        h = self.heads
        assert self.qkv.bias is not None
        kernel, bias = (p[...].astype(self.dtype) for p in (self.qkv.kernel, self.qkv.bias))
        query = self.probe[...].astype(self.dtype) @ kernel[:, :d] + bias[:d]  # of every image
        kv = x.reshape(b * n, d) @ kernel[:, d:] + bias[d:]
        k, v = jnp.split(kv.reshape(b, n, 2 * h, d // h), 2, axis=2)
        q = jnp.broadcast_to(query.reshape(1, 1, h, d // h), (b, 1, h, d // h))
        y = self.out(attend(q, k, v, causal=False).reshape(b, d))
        return y + self.fc2(ACTIVATIONS[self.activation](self.fc1(self.norm(y))))
