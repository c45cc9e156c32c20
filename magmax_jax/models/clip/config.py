"""The shape of a CLIP: what Hugging Face's `CLIPConfig` says, as hashable values."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from magmax_jax.errors import UserError
from magmax_jax.models.base import Place
from magmax_jax.models.clip.conversion import table
from magmax_jax.models.entries import Entry
from magmax_jax.models.hugging_face import transformers
from magmax_jax.models.layers.transformer import TowerConfig

LEGACY_EOS = 2
"""`eos_token_id` in configurations from before July 2023; the real EOS is the highest id there."""


@dataclass(frozen=True)
class VisionConfig(TowerConfig):
    image_size: int
    patch_size: int

    @property
    def grid(self) -> int:
        """Patches along one side; a remainder of the image is left out, as by a convolution."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class TextConfig(TowerConfig):
    vocabulary: int
    context: int
    eos: int
    bos: int | None = 49406
    pad: int | None = 1
    """`bos` and `pad` change no number here; they are kept for those who read the saved model."""


@dataclass(frozen=True)
class CLIPConfig:
    """Both towers and the width of the space that they share."""

    model_type: ClassVar[str] = "clip"

    vision: VisionConfig
    text: TextConfig
    projection: int
    logit_scale: float = 2.6592
    """Initial value of the logarithm of the inverse temperature, for training from nothing."""

    @property
    def image_size(self) -> int:
        """Images are square; pixels along one side."""
        return self.vision.image_size

    @property
    def entries(self) -> Sequence[Entry]:
        """Every parameter of the model, in the order of the forward pass."""
        return table(self.vision.patch_size, self.vision.layers, self.text.layers)

    @property
    def image_entries(self) -> Sequence[Entry]:
        """Those of the image tower, by their paths there."""
        tower = "vision."
        return [
            entry._replace(path=entry.path.removeprefix(tower))
            for entry in self.entries
            if entry.path.startswith(tower)
        ]

    def place_of(self, path: str) -> Place:
        """Where a parameter of the image tower is, by its path there.

        The norm and the projection behind the blocks are the head.
        """
        if path.startswith("blocks."):
            return Place("block", path.removeprefix("blocks."), stacked=True)
        head = path.startswith(("post_norm.", "projection."))
        return Place("head" if head else "embedding", path, stacked=False)

    def forward_flops(self) -> float:
        """Of the image tower on one image: two for each multiplication of its matrix products.

        n tokens of width d in L blocks with MLPs of width m, patches of p pixels, projected to q:

            2 (3 p^2 d (n - 1) + L n (4 d^2 + 2 d m + 2 n d) + d q)
        """
        tower = self.vision
        n, d, m = tower.grid**2 + 1, tower.width, tower.mlp
        patches = 3 * tower.patch_size**2 * d * (n - 1)
        blocks = tower.layers * n * (4 * d * d + 2 * d * m + 2 * n * d)
        return 2.0 * (patches + blocks + d * self.projection)

    @classmethod
    def from_hf(cls, config: Any) -> "CLIPConfig":
        """Our view of a `transformers.CLIPConfig`.

        Raises:
          UserError: it asks for what this implementation does not compute.
        """
        vision, text = config.vision_config, config.text_config
        for name, tower in (("vision", vision), ("text", text)):
            if tower.attention_dropout:
                raise UserError(
                    f"{name}_config.attention_dropout is {tower.attention_dropout}: CLIP is "
                    "trained and fine-tuned without dropout here, set it to 0"
                )
        if vision.num_channels != 3:
            raise UserError(
                f"vision_config.num_channels is {vision.num_channels}: images have 3 channels"
            )
        for name, value in {
            "vision_config.image_size": vision.image_size,
            "vision_config.patch_size": vision.patch_size,
            "text_config.eos_token_id": text.eos_token_id,
        }.items():
            if not isinstance(value, int):
                raise UserError(f"{name} is {value}: CLIP needs one integer there")
        return cls(
            vision=VisionConfig(
                **_tower(vision), image_size=vision.image_size, patch_size=vision.patch_size
            ),
            text=TextConfig(
                **_tower(text),
                vocabulary=text.vocab_size,
                context=text.max_position_embeddings,
                eos=text.eos_token_id,
                bos=text.bos_token_id,
                pad=text.pad_token_id,
            ),
            projection=config.projection_dim,
            logit_scale=config.logit_scale_init_value,
        )

    def to_hf(self) -> Any:
        """The `transformers.CLIPConfig` that describes this model."""
        vision = _hf_tower(self.vision) | {
            "image_size": self.vision.image_size,
            "patch_size": self.vision.patch_size,
            "projection_dim": self.projection,
        }
        text = _hf_tower(self.text) | {
            "vocab_size": self.text.vocabulary,
            "max_position_embeddings": self.text.context,
            "eos_token_id": self.text.eos,
            "bos_token_id": self.text.bos,
            "pad_token_id": self.text.pad,
            "projection_dim": self.projection,
        }
        return transformers().CLIPConfig(
            text_config=text,
            vision_config=vision,
            projection_dim=self.projection,
            logit_scale_init_value=self.logit_scale,
            architectures=["CLIPModel"],
            dtype="float32",
        )

    def at_size(self, image_size: int) -> "CLIPConfig":
        """The same model for square images of `image_size` pixels.

        Raises:
          UserError: the size is no multiple of the patch.
        """
        patch = self.vision.patch_size
        if image_size < patch or image_size % patch:
            below = max(image_size // patch, 1) * patch
            raise UserError(
                f"image_size {image_size} is no multiple of this model's patch of {patch} pixels: "
                f"use {below} or {below + patch}"
            )
        return replace(self, vision=replace(self.vision, image_size=image_size))


def _tower(config: Any) -> dict[str, Any]:
    return {
        "width": config.hidden_size,
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "mlp": config.intermediate_size,
        "activation": config.hidden_act,
        "epsilon": config.layer_norm_eps,
    }


def _hf_tower(config: TowerConfig) -> dict:
    return {
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp,
        "hidden_act": config.activation,
        "layer_norm_eps": config.epsilon,
    }
