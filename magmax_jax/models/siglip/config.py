"""The shape of a SigLIP: Hugging Face's `SiglipConfig` as hashable values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from magmax_jax.errors import UserError
from magmax_jax.models.entries import Entry
from magmax_jax.models.hugging_face import quiet, transformers
from magmax_jax.models.layers.patches import VisionConfig
from magmax_jax.models.layers.text import TextTowerConfig
from magmax_jax.models.siglip.conversion import table
from magmax_jax.models.tower_shapes import (
    TwoTowerShape,
    block_flops,
    check_towers,
    hf_tower,
    tower_sizes,
)


@dataclass(frozen=True)
class SigLIPTextConfig(TextTowerConfig):
    special: tuple[tuple[str, Any], ...] = ()
    """Ids of special tokens by their Hugging Face names: they affect nothing here and are kept for
    readers of the saved model."""


@dataclass(frozen=True)
class SigLIPConfig(TwoTowerShape):
    """Both towers; images and texts share the space of the vision tower's width.

    SigLIP 2's fixed-resolution checkpoints have this shape, too.
    """

    model_type: ClassVar[str] = "siglip"
    class_tokens: ClassVar[int] = 0
    head: ClassVar[tuple[str, ...]] = ("post_norm.", "head.")

    text: SigLIPTextConfig

    @property
    def entries(self) -> Sequence[Entry]:
        """Every parameter of the model, in the order of the forward pass."""
        return table(self.vision.patch_size, self.vision.layers, self.text.layers)

    def forward_flops(self) -> float:
        """FLOPs of the image tower on one image: two per multiplication in its matrix products.

        n tokens of width d in L blocks with MLPs of width m, patches of p pixels, pooled by one
        query, which is the same for all images:

            2 (3 p^2 d n + L n (4 d^2 + 2 d m + 2 n d) + 2 d^2 n + 2 n d + d^2 + 2 d m)
        """
        tower = self.vision
        n, d, m = tower.grid**2, tower.width, tower.mlp
        patches = 3 * tower.patch_size**2 * d * n
        pooling = 2 * d * d * n + 2 * n * d + d * d + 2 * d * m
        return 2.0 * (patches + block_flops(tower, n) + pooling)

    @classmethod
    def from_hf(cls, config: Any) -> "SigLIPConfig":
        """Our view of a `transformers.SiglipConfig`.

        Raises:
          UserError: it asks for something that this implementation does not support.
        """
        check_towers(config, "SigLIP")
        vision, text = config.vision_config, config.text_config
        if not vision.vision_use_head:
            raise UserError(
                "vision_config.vision_use_head is false: without its attention pooling the image "
                "tower has no feature to compare with texts; choose a SigLIP with two complete "
                "towers"
            )
        if text.projection_size != vision.hidden_size:
            raise UserError(
                f"text_config.projection_size is {text.projection_size}, vision_config.hidden_size "
                f"{vision.hidden_size}: texts and images cannot be compared; weights and "
                "config.json must come from one model"
            )
        ids = ((name, getattr(text, name)) for name in _SPECIAL)
        return cls(
            vision=VisionConfig(
                **tower_sizes(vision), image_size=vision.image_size, patch_size=vision.patch_size
            ),
            text=SigLIPTextConfig(
                **tower_sizes(text),
                vocabulary=text.vocab_size,
                context=text.max_position_embeddings,
                special=tuple(
                    (name, tuple(value) if isinstance(value, list) else value)
                    for name, value in ids
                ),
            ),
        )

    def to_hf(self) -> Any:
        """The `transformers.SiglipConfig` that describes this model."""
        vision = hf_tower(self.vision) | {
            "image_size": self.vision.image_size,
            "patch_size": self.vision.patch_size,
        }
        text = hf_tower(self.text) | {
            "vocab_size": self.text.vocabulary,
            "max_position_embeddings": self.text.context,
            "projection_size": self.vision.width,
        }
        for name, value in self.text.special:
            text[name] = list(value) if isinstance(value, tuple) else value
        with quiet():
            return transformers().SiglipConfig(
                text_config=text,
                vision_config=vision,
                architectures=["SiglipModel"],
                dtype="float32",
            )


_SPECIAL = ("pad_token_id", "bos_token_id", "eos_token_id")
