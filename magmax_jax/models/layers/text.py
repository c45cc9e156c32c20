"""The shared parts of families' text towers: shape, parameters, tokens.

Letters in shapes: b batch, n tokens, d width.
"""

from dataclasses import dataclass

import jax
from flax import nnx
from jax.typing import DTypeLike

from magmax_jax.models.layers.transformer import TowerConfig, layer_norm, stacked_blocks


@dataclass(frozen=True)
class TextTowerConfig(TowerConfig):
    """The shape of a text tower: ids are below `vocabulary`, texts have up to `context` tokens."""

    vocabulary: int
    context: int


class TextTransformer(nnx.Module):
    """Base of the families' text towers, which add pooling into a feature."""

    def __init__(self, config: TextTowerConfig, *, causal: bool, dtype: DTypeLike, rngs: nnx.Rngs):
        d = config.width
        normal = nnx.initializers.normal
        self.token_embedding = nnx.Param(normal(0.02)(rngs.params(), (config.vocabulary, d)))
        self.position_embedding = nnx.Param(normal(0.01)(rngs.params(), (config.context, d)))
        self.blocks = stacked_blocks(config, causal=causal, dtype=dtype, rngs=rngs)
        self.final_norm = layer_norm(config, dtype, rngs)
        self.config = config
        self.dtype = dtype

    def embed(self, ids: jax.Array) -> jax.Array:
        """Token ids (b, n) -> tokens with positions (b, n, d).

        Raises:
          ValueError: n exceeds the context.
        """
        n = ids.shape[1]
        if n > self.config.context:
            raise ValueError(f"{n} tokens per text: this tower takes at most {self.config.context}")
        x = self.token_embedding[...][ids] + self.position_embedding[...][:n]
        return x.astype(self.dtype)
