"""SigLIP (Zhai et al., 2023, arXiv 2303.15343) and SigLIP 2 (Tschannen et al., 2025, 2502.14786).

Letters in shapes: b batch, n tokens, d width of a tower, p width of the shared space.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from magmax_jax.models.checkpoint import Companions
from magmax_jax.models.layers.linear import Linear
from magmax_jax.models.layers.patches import VisionConfig, cut_patches
from magmax_jax.models.layers.text import TextTransformer
from magmax_jax.models.layers.transformer import apply_blocks, layer_norm, stacked_blocks
from magmax_jax.models.siglip import checkpoint
from magmax_jax.models.siglip.config import SigLIPConfig, SigLIPTextConfig
from magmax_jax.models.siglip.pooling import AttentionPooling
from magmax_jax.models.siglip.tokens import token_ids
from magmax_jax.models.two_towers import TwoTowers


class VisionTower(nnx.Module):
    """A vision transformer without a class token; its patches are pooled by attention."""

    def __init__(
        self,
        config: VisionConfig,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
        remat: bool = False,
        whole: Callable[[nnx.State], nnx.State] | None = None,
    ):
        """`remat` and `whole` are those of `apply_blocks`; they do not affect parameters."""
        d, patch = config.width, config.patch_size
        normal = nnx.initializers.normal(d**-0.5)
        self.patch_embedding = Linear(3 * patch * patch, d, dtype=dtype, rngs=rngs)
        self.position_embedding = nnx.Param(normal(rngs.params(), (config.grid**2, d)))
        self.blocks = stacked_blocks(config, causal=False, dtype=dtype, rngs=rngs)
        self.post_norm = layer_norm(config, dtype, rngs)
        self.head = AttentionPooling(config, dtype=dtype, rngs=rngs)
        self.config = config
        self.dtype = dtype
        self.remat, self.whole = remat, whole

    def embed(self, pixels: jax.Array) -> jax.Array:
        """Normalised pixels (b, height, width, 3) -> patches with positions, (b, n, d)."""
        patches = self.patch_embedding(cut_patches(self.config, pixels))
        return (patches + self.position_embedding[...]).astype(self.dtype)

    def __call__(self, pixels: jax.Array) -> jax.Array:
        """Normalised pixels (b, height, width, 3) -> features (b, p), not normalised."""
        x = apply_blocks(self.blocks, self.embed(pixels), self.remat, self.whole)
        return self.head(self.post_norm(x))


class TextTower(TextTransformer):
    """A transformer over the whole text; its last token, usually padding, gives the feature."""

    def __init__(
        self, config: SigLIPTextConfig, projection: int, *, dtype: DTypeLike, rngs: nnx.Rngs
    ):
        super().__init__(config, causal=False, dtype=dtype, rngs=rngs)
        d = config.width
        self.head = Linear(
            d, projection, kernel_init=nnx.initializers.normal(d**-0.5), dtype=dtype, rngs=rngs
        )

    def __call__(self, ids: jax.Array) -> jax.Array:
        """Token ids (b, n), padded as in training -> features (b, p), not normalised."""
        x = apply_blocks(self.blocks, self.embed(ids))
        return self.head(self.final_norm(x[:, -1]))


class SigLIP(TwoTowers):
    """Both towers, the logarithm of the inverse temperature, and the bias added to all logits."""

    processor = checkpoint.PROCESSOR

    def __init__(self, config: SigLIPConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.vision = self.new_image_tower(config, dtype=dtype, rngs=rngs)
        self.text = TextTower(config.text, config.vision.width, dtype=dtype, rngs=rngs)
        self.logit_scale = nnx.Param(jnp.float32(math.log(10)))  # section 3.2
        self.logit_bias = nnx.Param(jnp.float32(-10))
        self.config = config
        self.companions = Companions()

    @staticmethod
    def new_image_tower(config: SigLIPConfig, **options: Any) -> VisionTower:
        return VisionTower(config.vision, **options)

    @property
    def preprocessor(self) -> dict:
        return self.companions.preprocessor or checkpoint.DEFAULT

    def tokenize(self, texts: Sequence[str]) -> np.ndarray:
        """Token ids int32 (len(texts), context) as `encode_text` takes them; see `token_ids`."""
        return token_ids(self.tokenizer, self.config.text, texts)

    def __call__(self, pixels: jax.Array, ids: jax.Array) -> jax.Array:
        """Logits of every image for every text, (images, texts): scaled cosines and the bias.

        Their sigmoids are probabilities, independent for each pair.
        """
        return super().__call__(pixels, ids) + self.logit_bias[...]

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        image_size: int | None = None,
        dtype: DTypeLike = jnp.float32,
        text_source: str | Path | None = None,
    ) -> "SigLIP":
        """Loads a SigLIP or fixed-resolution SigLIP 2; fails if a tensor is missing or unexpected.

        Args:
          source: a directory, or a hub id such as "google/siglip-base-patch16-224" or
            "google/siglip2-base-patch16-224". Weights are safetensors (single or sharded), in
            float32, float16 or bfloat16.
          image_size: pixels; if not the checkpoint's, the position embedding is interpolated.
          dtype: of the computation; parameters are float32.
          text_source: if the source is only an image tower (transformers' `SiglipVisionModel`), the
            SigLIP that it was fine-tuned from, which completes it as in `CLIP.from_pretrained`.

        Raises:
          UserError: the source is missing or unreadable; it is a NaFlex checkpoint; its tensors are
            not exactly those of the model that its configuration describes (all differences in one
            message); the image size is not a multiple of the patch size; or `text_source` is
            missing, superfluous, or of another shape.
        """
        return cls.from_checkpoint(checkpoint.read(source, text_source), image_size, dtype)
