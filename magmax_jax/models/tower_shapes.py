"""Shared by the configurations of models with an image and a text tower."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from magmax_jax.errors import UserError
from magmax_jax.models.base import Place
from magmax_jax.models.entries import Entry
from magmax_jax.models.layers.patches import VisionConfig
from magmax_jax.models.layers.transformer import TowerConfig

BUFFERS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")
"""Integer ranges in older checkpoints; they are not learned."""

FIELDS = {
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp": "intermediate_size",
    "activation": "hidden_act",
    "epsilon": "layer_norm_eps",
}
"""Field of a `TowerConfig` -> its name in transformers' configurations."""


@dataclass(frozen=True)
class TwoTowerShape(abc.ABC):
    """The part of a `ModelShape` that any vision transformer as image tower has in common."""

    class_tokens: ClassVar[int]
    """Tokens of the image tower besides its patches."""
    head: ClassVar[tuple[str, ...]]
    """Path prefixes, within the image tower, of what follows its blocks."""

    vision: VisionConfig

    @property
    @abc.abstractmethod
    def entries(self) -> Sequence[Entry]:
        """Every parameter of the model, in the order of the forward pass."""

    @property
    def image_size(self) -> int:
        """Side length of the square images, in pixels."""
        return self.vision.image_size

    @property
    def image_entries(self) -> Sequence[Entry]:
        """The entries of the image tower, with their paths there."""
        tower = "vision."
        return [
            entry._replace(path=entry.path.removeprefix(tower))
            for entry in self.entries
            if entry.path.startswith(tower)
        ]

    def place_of(self, path: str) -> Place:
        """The place of an image tower parameter, given its path there."""
        if path.startswith("blocks."):
            return Place("block", path.removeprefix("blocks."), stacked=True)
        section = "head" if path.startswith(self.head) else "embedding"
        return Place(section, path, stacked=False)

    def at_size(self, image_size: int) -> Self:
        """The same model for square images of `image_size` pixels.

        Raises:
          UserError: the size differs and is not a multiple of the patch size.
        """
        return replace(self, vision=self.vision.at_size(image_size))


def block_flops(tower: TowerConfig, tokens: int) -> float:
    """Multiplications in the blocks for one sequence: L n (4 d^2 + 2 d m + 2 n d)."""
    n, d, m = tokens, tower.width, tower.mlp
    return tower.layers * n * (4 * d * d + 2 * d * m + 2 * n * d)


def check_towers(config: Any, name: str, integers: Sequence[str] = ()) -> None:
    """Refuses unsupported transformers configurations of two towers.

    Args:
      config: its `vision_config` and `text_config` are read.
      name: of the models, for messages.
      integers: dotted names of further settings that must be one integer.

    Raises:
      UserError: there is dropout, images do not have 3 channels, or sizes are not integers.
    """
    for tower in ("vision_config", "text_config"):
        if dropout := getattr(config, tower).attention_dropout:
            raise UserError(
                f"{tower}.attention_dropout is {dropout}: {name} is "
                "trained and fine-tuned without dropout here, set it to 0"
            )
    if (channels := config.vision_config.num_channels) != 3:
        raise UserError(
            f"vision_config.num_channels is {channels}: choose a model for RGB images, which have 3"
        )
    for field in ("vision_config.image_size", "vision_config.patch_size", *integers):
        tower, _, setting = field.partition(".")
        value = getattr(getattr(config, tower), setting)
        if not isinstance(value, int):
            raise UserError(f"{field} is {value}: {name} needs one integer there")


def tower_sizes(config: Any) -> dict[str, Any]:
    """The fields of a `TowerConfig` from a tower's transformers configuration."""
    return {ours: getattr(config, theirs) for ours, theirs in FIELDS.items()}


def hf_tower(config: TowerConfig) -> dict[str, Any]:
    """A tower's transformers configuration, as fields."""
    return {theirs: getattr(config, ours) for ours, theirs in FIELDS.items()}
