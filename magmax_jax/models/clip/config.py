"""The shape of a CLIP: Hugging Face's `CLIPConfig` as hashable values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from magmax_jax.models.clip.conversion import table
from magmax_jax.models.entries import Entry
from magmax_jax.models.hugging_face import transformers
from magmax_jax.models.layers.patches import VisionConfig
from magmax_jax.models.layers.text import TextTowerConfig
from magmax_jax.models.tower_shapes import (
    TwoTowerShape,
    block_flops,
    check_towers,
    hf_tower,
    tower_sizes,
)

LEGACY_EOS = 2
"""`eos_token_id` in configurations from before July 2023; the real EOS is the highest id there."""


@dataclass(frozen=True)
class TextConfig(TextTowerConfig):
    eos: int
    bos: int | None = 49406
    pad: int | None = 1
    """`bos` and `pad` affect nothing here; they are kept for readers of the saved model."""


@dataclass(frozen=True)
class CLIPConfig(TwoTowerShape):
    """Both towers and the width of the space that they share."""

    model_type: ClassVar[str] = "clip"
    class_tokens: ClassVar[int] = 1
    head: ClassVar[tuple[str, ...]] = ("post_norm.", "projection.")

    text: TextConfig
    projection: int
    logit_scale: float = 2.6592
    """Initial value of the log inverse temperature, for training from scratch."""

    @property
    def entries(self) -> Sequence[Entry]:
        """Every parameter of the model, in the order of the forward pass."""
        return table(self.vision.patch_size, self.vision.layers, self.text.layers)

    def forward_flops(self) -> float:
        """FLOPs of the image tower on one image: two per multiplication in its matrix products.

        n tokens of width d in L blocks with MLPs of width m, patches of p pixels, projected to q:

            2 (3 p^2 d (n - 1) + L n (4 d^2 + 2 d m + 2 n d) + d q)
        """
        tower = self.vision
        n, d = tower.grid**2 + 1, tower.width
        patches = 3 * tower.patch_size**2 * d * (n - 1)
        return 2.0 * (patches + block_flops(tower, n) + d * self.projection)

    @classmethod
    def from_hf(cls, config: Any) -> "CLIPConfig":
        """Our view of a `transformers.CLIPConfig`.

        Raises:
          UserError: it asks for something that this implementation does not support.
        """
        vision, text = config.vision_config, config.text_config
        check_towers(config, "CLIP", integers=("text_config.eos_token_id",))
        return cls(
            vision=VisionConfig(
                **tower_sizes(vision), image_size=vision.image_size, patch_size=vision.patch_size
            ),
            text=TextConfig(
                **tower_sizes(text),
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
        vision = hf_tower(self.vision) | {
            "image_size": self.vision.image_size,
            "patch_size": self.vision.patch_size,
            "projection_dim": self.projection,
        }
        text = hf_tower(self.text) | {
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
