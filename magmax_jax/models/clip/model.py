"""CLIP (Radford et al., 2021, arXiv 2103.00020): an image and a text tower into one space.

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

from magmax_jax.errors import UserError
from magmax_jax.inputs.prompts import ANY
from magmax_jax.inputs.rgb import channels_first
from magmax_jax.models import classification, conversion
from magmax_jax.models.checkpoint import Companions
from magmax_jax.models.clip import checkpoint
from magmax_jax.models.clip.config import LEGACY_EOS, CLIPConfig, TextConfig, VisionConfig
from magmax_jax.models.clip.conversion import BUFFERS
from magmax_jax.models.clip.tokens import token_ids
from magmax_jax.models.layers.normalise import normalise
from magmax_jax.models.layers.positions import interpolate_positions
from magmax_jax.models.layers.transformer import apply_blocks, layer_norm, stacked_blocks


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
        """`remat` and `whole` are `apply_blocks`'s; they change no parameter."""
        d, patch = config.width, config.patch_size
        normal = nnx.initializers.normal(d**-0.5)
        self.class_embedding = nnx.Param(normal(rngs.params(), (d,)))
        # A convolution whose stride is its size is one matmul over patches.
        self.patch_embedding = nnx.Linear(
            3 * patch * patch, d, use_bias=False, dtype=dtype, rngs=rngs
        )
        self.position_embedding = nnx.Param(normal(rngs.params(), (config.grid**2 + 1, d)))
        self.pre_norm = layer_norm(config, dtype, rngs)
        self.blocks = stacked_blocks(config, causal=False, dtype=dtype, rngs=rngs)
        self.post_norm = layer_norm(config, dtype, rngs)
        self.projection = nnx.Linear(
            d, projection, use_bias=False, kernel_init=normal, dtype=dtype, rngs=rngs
        )
        self.config = config
        self.remat, self.whole = remat, whole

    def embed(self, pixels: jax.Array) -> jax.Array:
        """Normalised pixels (b, height, width, 3) -> class token and patches, (b, n, d)."""
        size, patch, grid = self.config.image_size, self.config.patch_size, self.config.grid
        dtype = getattr(pixels, "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            raise UserError(
                f"pixels are {dtype or type(pixels).__name__}, not normalised floats: "
                "call model.preprocess(images) first"
            )
        if mistake := channels_first(pixels.shape):
            raise UserError(mistake)
        if pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
            raise UserError(
                f"pixels have shape {pixels.shape}: this tower takes (b, {size}, {size}, 3); "
                "model.preprocess(images) makes them, and another size is set by "
                "CLIP.from_pretrained(source, image_size=...)"
            )
        b = pixels.shape[0]
        pixels = pixels[:, : grid * patch, : grid * patch]
        pixels = pixels.reshape(b, grid, patch, grid, patch, 3).transpose(0, 1, 3, 2, 4, 5)
        patches = self.patch_embedding(pixels.reshape(b, grid * grid, patch * patch * 3))
        first = jnp.broadcast_to(self.class_embedding[...], (b, 1, patches.shape[-1]))
        tokens = jnp.concatenate([first.astype(patches.dtype), patches], axis=1)
        # In the parameters' float32: some checkpoints hold positions of a magnitude near 1000.
        return tokens + self.position_embedding[...]

    def __call__(self, pixels: jax.Array) -> jax.Array:
        """Normalised pixels (b, height, width, 3) -> features (b, p), not normalised."""
        x = self.pre_norm(self.embed(pixels))
        x = apply_blocks(self.blocks, x, self.remat, self.whole)
        return self.projection(self.post_norm(x[:, 0]))


class TextTower(nnx.Module):
    """A causal transformer whose EOS token is projected into the shared space."""

    def __init__(self, config: TextConfig, projection: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        d = config.width
        normal = nnx.initializers.normal
        self.token_embedding = nnx.Param(normal(0.02)(rngs.params(), (config.vocabulary, d)))
        self.position_embedding = nnx.Param(normal(0.01)(rngs.params(), (config.context, d)))
        self.blocks = stacked_blocks(config, causal=True, dtype=dtype, rngs=rngs)
        self.final_norm = layer_norm(config, dtype, rngs)
        self.projection = nnx.Linear(
            d, projection, use_bias=False, kernel_init=normal(d**-0.5), dtype=dtype, rngs=rngs
        )
        self.config = config
        self.dtype = dtype

    def embed(self, ids: jax.Array) -> jax.Array:
        """Token ids (b, n) -> tokens with positions (b, n, d)."""
        n = ids.shape[1]
        if n > self.config.context:
            raise ValueError(f"{n} tokens a text: this tower takes at most {self.config.context}")
        x = self.token_embedding[...][ids] + self.position_embedding[...][:n]
        return x.astype(self.dtype)

    def __call__(self, ids: jax.Array) -> jax.Array:
        """Token ids (b, n), padded behind their EOS -> features (b, p), not normalised."""
        x = self.final_norm(apply_blocks(self.blocks, self.embed(ids)))
        legacy = self.config.eos == LEGACY_EOS
        end = jnp.argmax(ids if legacy else ids == self.config.eos, axis=1)  # argmax: the first
        return self.projection(x[jnp.arange(len(x)), end])


class CLIP(nnx.Module):
    """Both towers and the logarithm of the inverse temperature.

    Parameters are float32 whatever `dtype` is, the dtype of the computation.

    A CLIP is a pytree. `magmax_jax.merge(theta_0, [theta_1, ...])` merges all its parameters, those
    of the text tower and the temperature included, and gives a CLIP with theta_0's tokenizer and
    preprocessor. To merge image towers alone, merge `image_tower`'s parameters and give them to
    `update_image_tower`. Blocks are stacked here, and q, k and v are one kernel: rules that treat
    each tensor by itself (`iso_c`) or draw by its name (`dare`) give another result than
    `magmax merge`, which reads the files' tensors; elementwise rules and `ties` give its bits.
    """

    def __init__(self, config: CLIPConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.vision = VisionTower(config.vision, config.projection, dtype=dtype, rngs=rngs)
        self.text = TextTower(config.text, config.projection, dtype=dtype, rngs=rngs)
        self.logit_scale = nnx.Param(jnp.float32(config.logit_scale))
        self.config = config
        self.companions = Companions()

    @property
    def tokenizer(self) -> Any:
        return self.companions.tokenizer

    @property
    def preprocessor(self) -> dict | None:
        return self.companions.preprocessor

    def check_mergeable(self, other: "CLIP") -> None:
        """Raises a UserError if the other model computes or tokenizes otherwise than this one."""
        for tower in ("vision", "text"):
            ours, theirs = getattr(self.config, tower), getattr(other.config, tower)
            for field in ("activation", "epsilon", "heads"):
                if getattr(ours, field) != getattr(theirs, field):
                    raise UserError(
                        f"{field} of the {tower} tower is {getattr(theirs, field)}, theta_0's is "
                        f"{getattr(ours, field)}: models that compute otherwise cannot be merged"
                    )
        first, second = self.companions, other.companions
        if first.tokenizer and second.tokenizer and not first.tokenizes_like(second):
            raise UserError(
                "its tokenizer is another one than theta_0's, so equal rows of their embeddings "
                "stand for other words: merge models of one tokenizer, or their image towers alone"
            )

    def encode_image(self, pixels: jax.Array) -> jax.Array:
        """Normalised pixels (b, height, width, 3) -> features (b, p), not normalised."""
        return self.vision(pixels)

    def encode_text(self, ids: jax.Array) -> jax.Array:
        """Token ids int (b, n), n at most the context -> features (b, p), not normalised."""
        return self.text(ids)

    def tokenize(self, texts: Sequence[str]) -> np.ndarray:
        """Token ids int32 (len(texts), n) as `encode_text` takes them; see `token_ids`."""
        return token_ids(self.tokenizer, self.config.text, texts)

    def preprocess(self, images: Any) -> jax.Array:
        """Images as `encode_image` takes them: float32 (b, size, size, 3), b = 1 for one image.

        `images` is a PIL image, the path of an image file, a uint8 array (h, w, 3), an iterable of
        these, or a uint8 array (b, h, w, 3); see `models.preprocess`.
        """
        return classification.preprocess(self, images)

    def classify(
        self,
        images: Any,
        class_names: Sequence[str],
        templates: str | Sequence[str] = ANY,
        batch_size: int = 64,
    ) -> classification.Classified:
        """Labels, scores and probabilities of images among class names; see `models.classify`.

        `images` are those of `preprocess`. `templates` are prompts with {} in place of the class
        name, "a photo of a {}." by default.
        """
        return classification.classify(self, images, class_names, templates, batch_size)

    def __call__(self, pixels: jax.Array, ids: jax.Array) -> jax.Array:
        """Logits of every image for every text, (images, texts): scaled cosine similarities."""
        image, text = normalise(self.encode_image(pixels)), normalise(self.encode_text(ids))
        return jnp.exp(self.logit_scale[...]) * image @ text.T

    def image_tower(
        self,
        dtype: DTypeLike,
        remat: bool = False,
        whole: Callable[[nnx.State], nnx.State] | None = None,
    ) -> tuple[nnx.GraphDef, nnx.State]:
        """What is fine-tuned: the image tower computing in `dtype`, and its float32 parameters.

        Text may thus be encoded in one dtype and images in another; the parameters are shared, not
        copied. `remat` and `whole` are those of `transformer.apply_blocks`.
        """

        def tower() -> VisionTower:
            return VisionTower(
                self.config.vision,
                self.config.projection,
                dtype=jnp.dtype(dtype),
                rngs=nnx.Rngs(0),
                remat=remat,
                whole=whole,
            )

        return nnx.graphdef(nnx.eval_shape(tower)), nnx.state(self.vision)

    def update_image_tower(self, params: nnx.State) -> None:
        """Replaces the image tower's parameters; `params` is like what `image_tower` returns."""
        nnx.update(self.vision, params)

    def text_tower(self) -> tuple[nnx.GraphDef, nnx.State]:
        """What encodes text, and its parameters."""
        return nnx.split(self.text)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        image_size: int | None = None,
        dtype: DTypeLike = jnp.float32,
        text_source: str | Path | None = None,
    ) -> "CLIP":
        """Loads a CLIP checkpoint; every tensor of it is accounted for.

        Args:
          source: a directory, or a hub id such as "openai/clip-vit-base-patch16". Weights may be
            safetensors (single or sharded; Hugging Face's or OpenCLIP's names) or
            `flax_model.msgpack`, in float32, float16 or bfloat16. Pickles are never read.
          image_size: pixels; another than the checkpoint's interpolates the position embedding.
          dtype: of the computation; parameters are float32.
          text_source: where the source is an image tower alone (transformers' `CLIPVisionModel` or
            `CLIPVisionModelWithProjection`), the CLIP that it was fine-tuned from. Its text tower,
            temperature and tokenizer complete the tower, and so do its projection and preprocessor
            where the tower came without them. The tower's configuration decides the image size.

        Raises:
          UserError: the source is missing, unreadable or a pickle; its tensors are not exactly
            those of the model that its configuration describes (all differences in one message);
            the image size is no multiple of the patch; or `text_source` is missing, not wanted, or
            of another shape.
        """
        found = checkpoint.read(source, text_source)
        config = found.config
        if image_size is not None:
            config = config.at_size(image_size)

        def abstract(config: CLIPConfig) -> CLIP:
            return nnx.eval_shape(lambda: cls(config, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0)))

        params = conversion.from_hf(
            found.tensors,
            found.config.entries,
            nnx.state(abstract(found.config)),
            where=str(found.directory),
            buffers=BUFFERS,
        )
        params["vision.position_embedding"] = interpolate_positions(
            params["vision.position_embedding"], config.vision.grid
        )
        graphdef, state = nnx.split(abstract(config))
        model = nnx.merge(graphdef, conversion.fill(state, params))
        model.companions = found.companions
        return model

    def save_pretrained(self, directory: str | Path, dtype: str = "float32") -> None:
        """Writes configuration, safetensors, tokenizer and preprocessor; transformers loads them.

        The directory appears whole or not at all. With `dtype` "float32" the round trip is
        bit-exact; "float16" and "bfloat16" round.

        Raises:
          UserError: the directory exists and is not empty, or cannot be written.
        """
        state = nnx.state(self, nnx.Param)
        checkpoint.write(Path(directory), self.config, state, self.companions, dtype)
