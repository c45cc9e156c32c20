"""The pre-norm transformer of image and text towers.

Letters in shapes: b batch, n tokens, d width, h heads, m width of the MLP, l layers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Primitive
from jax.typing import DTypeLike

from magmax_jax.errors import UserError
from magmax_jax.models.layers.activations import ACTIVATIONS
from magmax_jax.models.layers.attention import attend
from magmax_jax.models.layers.kept import KEPT
from magmax_jax.models.layers.linear import Linear
from magmax_jax.models.layers.squared_gradients import squared_here, squares_are_summed


@dataclass(frozen=True)
class TowerConfig:
    """The shape of a transformer: `layers` blocks of width d = `width`."""

    width: int
    layers: int
    heads: int
    mlp: int
    activation: str
    epsilon: float

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise UserError(
                f"hidden_size {self.width} is not divisible by {self.heads} attention heads: give "
                "the config.json that belongs to the weights"
            )
        if self.activation not in ACTIVATIONS:
            raise UserError(
                f"hidden_act {self.activation!r} is not supported: choose a model with one of "
                f"{', '.join(ACTIVATIONS)}"
            )


def layer_norm(config: TowerConfig, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """LayerNorm with two float32 passes: E[x^2] - E[x]^2 cancels where |x| is near 1000."""
    return nnx.LayerNorm(
        config.width, epsilon=config.epsilon, use_fast_variance=False, dtype=dtype, rngs=rngs
    )


class Attention(nnx.Module):
    """Multi-head self-attention; q, k and v come from one matmul."""

    def __init__(self, config: TowerConfig, *, causal: bool, dtype: DTypeLike, rngs: nnx.Rngs):
        d = config.width
        # The standard deviations of OpenAI's CLIP: residual branches shrink with depth.
        residual = nnx.initializers.normal((2 * config.layers * d) ** -0.5)
        inner = nnx.initializers.normal(d**-0.5)
        self.qkv = Linear(d, 3 * d, kernel_init=inner, dtype=dtype, rngs=rngs)
        self.out = Linear(d, d, kernel_init=residual, dtype=dtype, rngs=rngs)
        self.heads = config.heads
        self.causal = causal

    def __call__(self, x: jax.Array, n: int) -> jax.Array:
        """(b n, d) -> (b n, d), each of b sequences of n tokens attending to itself."""
        d, h = x.shape[-1], self.heads
        qkv = checkpoint_name(self.qkv(x), KEPT)
        q, k, v = jnp.split(qkv.reshape(-1, n, 3 * h, d // h), 3, axis=2)  # (b, n, h, d/h)
        return self.out(attend(q, k, v, causal=self.causal).reshape(-1, d))


class Block(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: TowerConfig, *, causal: bool, dtype: DTypeLike, rngs: nnx.Rngs):
        d, m = config.width, config.mlp
        residual = nnx.initializers.normal((2 * config.layers * d) ** -0.5)
        wide = nnx.initializers.normal((2 * d) ** -0.5)
        self.norm1 = layer_norm(config, dtype, rngs)
        self.attention = Attention(config, causal=causal, dtype=dtype, rngs=rngs)
        self.norm2 = layer_norm(config, dtype, rngs)
        self.fc1 = Linear(d, m, kernel_init=wide, dtype=dtype, rngs=rngs)
        self.fc2 = Linear(m, d, kernel_init=residual, dtype=dtype, rngs=rngs)
        self.activation = config.activation

    def __call__(self, x: jax.Array, n: int) -> jax.Array:
        """(b n, d) -> (b n, d), sequences of n tokens."""
        x = checkpoint_name(x + self.attention(self.norm1(x), n), KEPT)
        hidden = checkpoint_name(self.fc1(self.norm2(x)), KEPT)
        return x + self.fc2(ACTIVATIONS[self.activation](hidden))


def stacked_blocks(config: TowerConfig, *, causal: bool, dtype: DTypeLike, rngs: nnx.Rngs) -> Block:
    """All blocks of a tower as one `Block` whose parameters are stacked over layers: (l, ...)."""

    @nnx.split_rngs(splits=config.layers)
    @nnx.vmap(in_axes=0, out_axes=0)
    def stacked(rngs: nnx.Rngs) -> Block:
        return Block(config, causal=causal, dtype=dtype, rngs=rngs)

    return stacked(rngs)


def apply_blocks(
    blocks: Block,
    x: jax.Array,
    remat: bool = False,
    whole: Callable[[nnx.State], nnx.State] | None = None,
) -> jax.Array:
    """Applies the stack to x (b, n, d); only one block is compiled, whatever the depth.

    Tokens are flattened to (b n, d): plain matrix products are the fastest everywhere. For the
    gradient, a block keeps what is expensive to compute (`KEPT`); norms, activations and attention
    weights are recomputed, which is faster than writing and reading them. Per-example gradients are
    squared block by block (`squared_here`), so a tower may apply a stack only once.

    Args:
      remat: keep only each block's input for the gradient, and recompute everything else.
      whole: gathers one block's parameters if they are sharded.
    """
    graphdef, params = nnx.split(blocks)
    b, n, d = x.shape
    matrices = jax.tree.map(lambda p: p.ndim > 2, params)

    def rounded(params: nnx.State) -> nnx.State:
        return jax.tree.map(
            lambda p, is_matrix: p.astype(x.dtype) if is_matrix else p, params, matrices
        )

    # Matrices are rounded before they are gathered: the same bits, and half the bytes in 16 bits.
    # When squared gradients are summed, in float32, each block's are rounded within the scan.
    if whole and not squares_are_summed():
        params = rounded(params)

    def step(x: jax.Array, params: nnx.State) -> tuple[jax.Array, None]:
        params = squared_here(params)
        return nnx.merge(graphdef, whole(rounded(params)) if whole else params)(x, n), None

    # prevent_cse is not needed within a scan.
    policy = jax.checkpoint_policies.nothing_saveable if remat else _keeps
    step = jax.checkpoint(step, prevent_cse=False, policy=policy)
    return jax.lax.scan(step, x.reshape(b * n, d), params)[0].reshape(b, n, d)


_named = jax.checkpoint_policies.save_only_these_names(KEPT)


def _keeps(primitive: Primitive, *inputs: Any, **params: Any) -> bool:
    """Whether an operation's results are kept for the gradient: `KEPT`, and the results of cuDNN's
    attention, which its gradient needs."""
    return _named(primitive, *inputs, **params) or "dot_product_attention" in primitive.name
