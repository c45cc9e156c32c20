"""The protocol of a model family: all that the rest of the package needs from it.

A family is one value, registered under the `model_type` in its checkpoints' `config.json`:

    from magmax_jax.models import ModelFamily
    from magmax_jax.registry import MODEL_FAMILIES

    MODEL_FAMILIES.register("my_type", ModelFamily(my_shape_of, my_load, my_init))

Letters in shapes: b batch, n tokens, p width of the space that images and texts share, k classes.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import jax
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from magmax_jax.inputs.prompts import ANY
from magmax_jax.models.entries import Entry


class Place(NamedTuple):
    """The location of a parameter in the image tower.

    Attributes:
      section: "embedding" before the blocks, "block", or "head" after them. For stacked parameters,
        studies append the block's number; others already say "block 3".
      kind: of weight, the same in every block: "attention.qkv.kernel".
      stacked: whether the parameter's first axis runs over blocks.
    """

    section: str
    kind: str
    stacked: bool


class ModelShape(Protocol):
    """A model's configuration as a hashable value; needs no weights."""

    @property
    def model_type(self) -> str:
        """The name under which the family is registered."""
        ...

    @property
    def image_size(self) -> int:
        """Side length of the square images, in pixels."""
        ...

    @property
    def image_entries(self) -> Sequence[Entry]:
        """Every parameter of the image tower, with its path there and Hugging Face's names."""
        ...

    def at_size(self, image_size: int) -> Self:
        """The same model for images of `image_size` pixels.

        Raises:
          UserError: the model does not support that size.
        """
        ...

    def place_of(self, path: str) -> Place:
        """The place of an image tower parameter, given its path there: "blocks.fc1.kernel"."""
        ...

    def forward_flops(self) -> float:
        """FLOPs of the image tower on one image: two per multiplication in its matrix products."""
        ...


class Model(Protocol):
    """A loaded model: an `nnx.Module` whose parameters are float32.

    The logits of images for classes are `normalise(encode_image(pixels)) @ head`, where head is
    `zero_shot_head(model, ...)`. A constant that a family adds to all logits, such as SigLIP's
    bias, is left out: it changes neither a softmax nor a maximum. If a family's probabilities need
    it, `ZeroShot.probabilities` adds it.
    """

    @property
    def config(self) -> ModelShape: ...

    @property
    def preprocessor(self) -> Mapping[str, Any] | None:
        """Settings of the image processor, flat as in `preprocessor_config.json`.

        Missing settings default to those of the processor that they name (`image_processor_type`,
        see `inputs.processor_settings`); None stands for CLIP's.
        """
        ...

    @property
    def logit_scale(self) -> nnx.Param:
        """float32 scalar, the logarithm of the factor of cosine similarities."""
        ...

    def encode_image(self, pixels: jax.Array) -> jax.Array:
        """Normalised pixels (b, height, width, 3) -> features (b, p), not normalised."""
        ...

    def encode_text(self, ids: jax.Array) -> jax.Array:
        """Token ids int (b, n) -> features (b, p), not normalised."""
        ...

    def tokenize(self, texts: Sequence[str]) -> np.ndarray:
        """Token ids int32 (len(texts), n), padded as `encode_text` expects.

        Raises:
          UserError: there is no tokenizer, it is another model's, or a text is too long.
        """
        ...

    def text_tower(self) -> tuple[nnx.GraphDef, nnx.State]:
        """`encode_text` as a graph and its parameters: merged, they take ids (b, n)."""
        ...

    def image_tower(
        self,
        dtype: DTypeLike,
        remat: bool = False,
        whole: Callable[[nnx.State], nnx.State] | None = None,
    ) -> tuple[nnx.GraphDef, nnx.State]:
        """The part that is fine-tuned, `encode_image`, as a graph and its float32 parameters.

        The parameters do not follow the model. A bare `nnx.state` would: it shares the variables
        that updates change in place.

        Args:
          dtype: of the computation.
          remat: recompute activations for the gradient, if that saves memory.
          whole: gathers the parameters of one block if they are sharded; a tower without parameters
            of three or more axes, the only ones that are sharded, may ignore it.
        """
        ...

    def update_image_tower(self, params: nnx.State) -> None:
        """Replaces the image tower's parameters; `params` is like what `image_tower` returns."""
        ...

    def save_pretrained(
        self, directory: str | Path, dtype: str = "float32", card: str | None = None
    ) -> None:
        """Writes a new directory that `models.from_pretrained` loads.

        Args:
          directory: a new one, written atomically.
          dtype: of the weights.
          card: the text of its README.md, none by default.

        Raises:
          UserError: the family's models are not saved, or the directory cannot be written.
        """
        ...


class LastMap(NamedTuple):
    """The linear map that ends a family's image towers: features (b, d) -> (b, p).

    Attributes:
      kernel: the path of its kernel (d, p); the map itself adds no bias.
      bias: the path of a parameter (d,) that is added to the features and used nowhere else.
    """

    kernel: str
    bias: str


def _never(directory: Path) -> bool:
    return False


class Towers(NamedTuple):
    """How a family loads image towers without a text tower (`models.towers`).

    Attributes:
      alone: whether a directory holds such a tower.
      shape_of: (the tower's directory, the shape of the model that completes it) -> the shape of
        both together; raises a UserError if the tower is not built like that model's.
      load: (the tower's directory, that of the model that completes it, image size or None for the
        tower's own, dtype of the computation) -> the model; raises a UserError as
        `ModelFamily.load` does.
    """

    alone: Callable[[Path], bool]
    shape_of: Callable[[Path, Any], ModelShape]
    load: Callable[[Path, Path, int | None, DTypeLike], Model]


def _softmax(model: Model, logits: jax.Array) -> jax.Array:
    return jax.nn.softmax(logits)


class ZeroShot(NamedTuple):
    """How a family classifies images without knowing their data set.

    Attributes:
      templates: prompts with {} in place of the class name.
      probabilities: (model, logits (b, k) as `Model` defines them) -> (b, k), the probability of
        each class, in the order of the logits; the softmax by default.
    """

    templates: Sequence[str] = ANY
    probabilities: Callable[[Any, jax.Array], jax.Array] = _softmax


class ModelFamily(NamedTuple):
    """One family of models, found by `model_type`.

    Attributes:
      shape_of: a directory -> the shape in its configuration; raises a UserError if that does not
        describe one of the family's models.
      load: (directory, image size or None for the checkpoint's own, dtype of the computation) ->
        the model; raises a UserError if its files are incomplete.
      init: a shape -> a model with random parameters; plans only trace it, for shapes.
      published: shapes of well-known models by hub id, for plans made before a download.
      recognises: whether a directory without a known `model_type` still belongs to the family,
        judging by another publisher's files.
      towers: how separate image towers are loaded; None if they are not supported.
      zero_shot: how the family's models classify, by default as CLIP does.
      last_map: the map that refits fit; None if towers do not end in a linear map.
    """

    shape_of: Callable[[Path], ModelShape]
    load: Callable[[Path, int | None, DTypeLike], Model]
    init: Callable[[Any, nnx.Rngs], Model]
    published: Mapping[str, ModelShape] = {}
    recognises: Callable[[Path], bool] = _never
    towers: Towers | None = None
    zero_shot: ZeroShot = ZeroShot()
    last_map: LastMap | None = None


def num_entries(model: Model) -> int:
    """Number of parameters in all towers: 149,620,737 for CLIP ViT-B/16."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
