"""Shared by all families of models with image and text towers that map into one space.

Letters in shapes: b batch, n tokens, p width of the shared space.
"""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from magmax_jax.errors import UserError
from magmax_jax.models import classification, conversion
from magmax_jax.models.auto_axes import on_any_axes
from magmax_jax.models.checkpoint import Companions, saved_preprocessor, write
from magmax_jax.models.conversion import Tensors
from magmax_jax.models.entries import linear_maps
from magmax_jax.models.layers.normalise import normalise
from magmax_jax.models.layers.positions import interpolate_positions
from magmax_jax.models.tower_shapes import BUFFERS, TwoTowerShape


def _as_of_now(state: nnx.State) -> nnx.State:
    """A state with variables of its own: a module's are changed in place when it is trained."""
    mine: nnx.State = jax.tree.map(lambda leaf: leaf, state)
    return mine


@dataclass(frozen=True)
class Checkpoint:
    """An opened directory: its tensors by Hugging Face's name, each loaded when called."""

    directory: Path
    config: TwoTowerShape
    tensors: Tensors
    companions: Companions


class TwoTowers(nnx.Module):
    """Base of the families' models, which set `vision`, `text`, `logit_scale` and `config`.

    Parameters are float32 whatever the dtype of the computation.

    A model is a pytree. `magmax_jax.merge(theta_0, [theta_1, ...])` merges all its parameters,
    including the text tower's and the temperature, and returns a model with theta_0's tokenizer and
    preprocessor. To merge only image towers, merge the parameters of `image_tower` and pass them to
    `update_image_tower`. Blocks are stacked here, and q, k and v are one kernel. Elementwise rules
    and `ties` give the same bits as `magmax merge`, which reads the files' tensors. Matrix rules
    agree with it up to rounding if `maps` says where the matrices are:
    `rules.iso_c(maps=theta_0.linear_maps())`. Rules that draw random numbers by a tensor's name
    (`dare`) draw different ones.
    """

    processor: ClassVar[str]
    """The `image_processor_type` that is saved."""

    config: Any
    companions: Companions
    vision: nnx.Module
    text: nnx.Module
    logit_scale: nnx.Param

    @abc.abstractmethod
    def tokenize(self, texts: Sequence[str]) -> np.ndarray:
        """Token ids int32 (len(texts), n) as `encode_text` takes them."""

    @staticmethod
    @abc.abstractmethod
    def new_image_tower(config: Any, **options: Any) -> nnx.Module:
        """The image tower of a model of that configuration, with random parameters.

        `options` are dtype and rngs, and `remat` and `whole` of `transformer.apply_blocks`.
        """

    @property
    def tokenizer(self) -> Any:
        return self.companions.tokenizer

    @property
    def preprocessor(self) -> dict | None:
        return self.companions.preprocessor

    def linear_maps(self) -> tuple[tuple[str, bool, int, int], ...]:
        """The leaves of this model that are kernels of linear maps: the `maps` of matrix rules.

        For each, its path, whether it is stacked over layers, how many kernels it holds (three for
        query, key and value), and along which axis of a kernel these lie side by side.
        """
        return linear_maps(self.config.entries)

    def check_mergeable(self, other: Any) -> None:
        """Raises a UserError if the other model computes or tokenizes differently."""
        for tower in ("vision", "text"):
            ours, theirs = getattr(self.config, tower), getattr(other.config, tower)
            for field in ("activation", "epsilon", "heads"):
                if getattr(ours, field) != getattr(theirs, field):
                    raise UserError(
                        f"{field} of the {tower} tower is {getattr(theirs, field)}, theta_0's is "
                        f"{getattr(ours, field)}: models that compute differently cannot be merged"
                    )
        first, second = self.companions, other.companions
        if first.tokenizer and second.tokenizer and not first.tokenizes_like(second):
            raise UserError(
                "its tokenizer differs from theta_0's, so the same rows of the embeddings stand "
                "for different words: merge models with the same tokenizer, or only their image "
                "towers"
            )

    @on_any_axes(batch=1)
    def encode_image(self, pixels: jax.Array) -> jax.Array:
        """Normalised pixels (b, height, width, 3) -> features (b, p), not normalised."""
        return self.vision(pixels)

    @on_any_axes(batch=1)
    def encode_text(self, ids: jax.Array) -> jax.Array:
        """Token ids int (b, n), n at most the context -> features (b, p), not normalised."""
        return self.text(ids)

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
        templates: str | Sequence[str] | None = None,
        batch_size: int = 64,
    ) -> classification.Classified:
        """Labels, scores and probabilities of images among class names; see `models.classify`.

        `images` are those of `preprocess`. `templates` are prompts with {} in place of the class
        name; the family has a default.
        """
        return classification.classify(self, images, class_names, templates, batch_size)

    @on_any_axes(batch=1)
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
        """The part that is fine-tuned: the image tower computing in `dtype`, and its parameters.

        Thus texts and images may be encoded in different dtypes. The float32 arrays are shared, not
        copied, but the parameters stay as they are if the model is updated or trained. `remat` and
        `whole` are those of `transformer.apply_blocks`.
        """

        def tower() -> nnx.Module:
            return self.new_image_tower(
                self.config, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0), remat=remat, whole=whole
            )

        return nnx.graphdef(nnx.eval_shape(tower)), _as_of_now(nnx.state(self.vision))

    def update_image_tower(self, params: nnx.State) -> None:
        """Replaces the image tower's parameters; `params` is like what `image_tower` returns."""
        nnx.update(self.vision, params)

    def text_tower(self) -> tuple[nnx.GraphDef, nnx.State]:
        """The text encoder and its parameters, which stay as they are if the model is trained."""
        graphdef, state = nnx.split(self.text)
        return graphdef, _as_of_now(state)

    def save_pretrained(
        self, directory: str | Path, dtype: str = "float32", card: str | None = None
    ) -> None:
        """Writes configuration, safetensors, tokenizer and preprocessor for transformers to load.

        The directory is written atomically. With `dtype` "float32" the round trip is bit-exact;
        "float16" and "bfloat16" round.

        Args:
          directory: a new one.
          dtype: of the weights.
          card: the text of a model card, README.md; none by default.

        Raises:
          UserError: the directory exists and is not empty, or cannot be written.
        """
        config, state = self.config, nnx.state(self, nnx.Param)
        preprocessor = saved_preprocessor(self.preprocessor, self.processor, config.image_size)
        companions = replace(self.companions, preprocessor=preprocessor)
        write(Path(directory), config.to_hf(), companions, config.entries, state, dtype, card)

    @classmethod
    def from_checkpoint(cls, found: Checkpoint, image_size: int | None, dtype: DTypeLike) -> Self:
        """The model in a checkpoint.

        Args:
          found: with a configuration of this class.
          image_size: pixels; if not the checkpoint's, the position embedding is interpolated.
          dtype: of the computation.

        Raises:
          UserError: its tensors are not exactly those of the model that its configuration
            describes (all differences in one message), or the image size is not a multiple of the
            patch size.
        """
        config = found.config
        if image_size is not None:
            config = config.at_size(image_size)

        make: Callable[..., Self] = cls

        def abstract(config: TwoTowerShape) -> Any:
            return nnx.eval_shape(lambda: make(config, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0)))

        params = conversion.from_hf(
            found.tensors,
            found.config.entries,
            nnx.state(abstract(found.config)),
            where=str(found.directory),
            buffers=BUFFERS,
        )
        params["vision.position_embedding"] = interpolate_positions(
            params["vision.position_embedding"], config.vision.grid, config.class_tokens
        )
        graphdef, state = nnx.split(abstract(config))
        model: Self = nnx.merge(graphdef, conversion.fill(state, params))
        model.companions = found.companions
        return model
