"""CLIP (Radford et al., 2021, arXiv 2103.00020): image and text towers that share one space.

Letters in shapes: b batch, n tokens, d width of a tower, p width of the shared space.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from magmax_jax.models.checkpoint import Companions
from magmax_jax.models.clip import checkpoint
from magmax_jax.models.clip.config import LEGACY_EOS, CLIPConfig, TextConfig
from magmax_jax.models.clip.tokens import token_ids
from magmax_jax.models.layers.linear import Linear
from magmax_jax.models.layers.patches import VisionConfig, cut_patches
from magmax_jax.models.layers.text import TextTransformer
from magmax_jax.models.layers.transformer import apply_blocks, layer_norm, stacked_blocks
from magmax_jax.models.two_towers import TwoTowers


class VisionTower(nnx.Module):
    """A vision transformer whose class token is projected into the shared space."""

    def __init__(
        self,
        config: VisionConfig,
        projection: int,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
        remat: bool = False,
        whole: Callable[[nnx.State], nnx.State] | None = None,
    ):
        """`remat` and `whole` are those of `apply_blocks`; they do not affect parameters."""
        d, patch = config.width, config.patch_size
        normal = nnx.initializers.normal(d**-0.5)
        self.class_embedding = nnx.Param(normal(rngs.params(), (d,)))
        # A convolution with stride equal to its size is one matmul over patches.
        self.patch_embedding = Linear(3 * patch * patch, d, use_bias=False, dtype=dtype, rngs=rngs)
        self.position_embedding = nnx.Param(normal(rngs.params(), (config.grid**2 + 1, d)))
        self.pre_norm = layer_norm(config, dtype, rngs)
        self.blocks = stacked_blocks(config, causal=False, dtype=dtype, rngs=rngs)
        self.post_norm = layer_norm(config, dtype, rngs)
        self.projection = Linear(
            d, projection, use_bias=False, kernel_init=normal, dtype=dtype, rngs=rngs
        )
        self.config = config
        self.remat, self.whole = remat, whole

    def embed(self, pixels: jax.Array) -> jax.Array:
        """Normalised pixels (b, height, width, 3) -> class token and patches, (b, n, d)."""
        patches = self.patch_embedding(cut_patches(self.config, pixels))
        b = patches.shape[0]
        first = jnp.broadcast_to(self.class_embedding[...], (b, 1, patches.shape[-1]))
        tokens = jnp.concatenate([first.astype(patches.dtype), patches], axis=1)
        # In the parameters' float32: some checkpoints have positions with magnitudes near 1000.
        return tokens + self.position_embedding[...]

    def __call__(self, pixels: jax.Array) -> jax.Array:
        """Normalised pixels (b, height, width, 3) -> features (b, p), not normalised."""
        x = self.pre_norm(self.embed(pixels))
        x = apply_blocks(self.blocks, x, self.remat, self.whole)
        return self.projection(self.post_norm(x[:, 0]))


class TextTower(TextTransformer):
    """A causal transformer whose EOS token is projected into the shared space."""

    config: TextConfig

    def __init__(self, config: TextConfig, projection: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        super().__init__(config, causal=True, dtype=dtype, rngs=rngs)
        d = config.width
        self.projection = Linear(
            d,
            projection,
            use_bias=False,
            kernel_init=nnx.initializers.normal(d**-0.5),
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, ids: jax.Array) -> jax.Array:
        """Token ids (b, n), padded after their EOS -> features (b, p), not normalised."""
        x = self.final_norm(apply_blocks(self.blocks, self.embed(ids)))
        legacy = self.config.eos == LEGACY_EOS
        end = jnp.argmax(ids if legacy else ids == self.config.eos, axis=1)  # argmax: the first
        return self.projection(x[jnp.arange(len(x)), end])


class CLIP(TwoTowers):
    """Both towers and the logarithm of the inverse temperature."""

    processor = checkpoint.PROCESSOR

    def __init__(self, config: CLIPConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.vision = self.new_image_tower(config, dtype=dtype, rngs=rngs)
        self.text = TextTower(config.text, config.projection, dtype=dtype, rngs=rngs)
        self.logit_scale = nnx.Param(jnp.float32(config.logit_scale))
        self.config = config
        self.companions = Companions()

    @staticmethod
    def new_image_tower(config: CLIPConfig, **options: Any) -> VisionTower:
        return VisionTower(config.vision, config.projection, **options)

    def tokenize(self, texts: Sequence[str]) -> np.ndarray:
        """Token ids int32 (len(texts), n) as `encode_text` takes them; see `token_ids`."""
        return token_ids(self.tokenizer, self.config.text, texts)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        image_size: int | None = None,
        dtype: DTypeLike = jnp.float32,
        text_source: str | Path | None = None,
    ) -> "CLIP":
        """Loads a CLIP checkpoint; fails if a tensor is missing or unexpected.

        Args:
          source: a directory, or a hub id such as "openai/clip-vit-base-patch16". Weights may be
            safetensors (single or sharded; Hugging Face's or OpenCLIP's names) or
            `flax_model.msgpack`, in float32, float16 or bfloat16. Pickles are never read.
          image_size: pixels; if not the checkpoint's, the position embedding is interpolated.
          dtype: of the computation; parameters are float32.
          text_source: if the source is only an image tower (transformers' `CLIPVisionModel` or
            `CLIPVisionModelWithProjection`), the CLIP that it was fine-tuned from, which supplies
            text tower, temperature and tokenizer, and also projection and preprocessor if the tower
            has none. The tower's configuration determines the image size.

        Raises:
          UserError: the source is missing, unreadable or a pickle; its tensors are not exactly
            those of the model that its configuration describes (all differences in one message);
            the image size is not a multiple of the patch size; or `text_source` is missing,
            superfluous, or of another shape.
        """
        return cls.from_checkpoint(checkpoint.read(source, text_source), image_size, dtype)
