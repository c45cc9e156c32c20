"""Image towers that come alone: what they lack is taken from the model they were fine-tuned from.

transformers' `CLIPVisionModel` and `CLIPVisionModelWithProjection` save such checkpoints.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from magmax_jax.errors import ConfigError, UserError, some
from magmax_jax.models.checkpoint import CONFIG, model_type
from magmax_jax.models.conversion import Tensors

VISION = "vision_model."
"""What begins the names of a tower's tensors; `CLIPVisionModel` of transformers 5 leaves it out."""
PROJECTION = "visual_projection.weight"
"""What follows the tower, in some of these checkpoints."""


def check_text_source(directory: Path, alone: bool, text_source: str | Path | None) -> None:
    """Raises a ConfigError if a tower comes without a model to complete it, or a whole one with.

    Args:
      directory: the checkpoint's.
      alone: whether it is an image tower alone.
      text_source: the model that is to complete it.
    """
    if alone and text_source is None:
        raise ConfigError(
            f"{directory / CONFIG}: {model_type(directory)!r} is an image tower alone, and class "
            "names need a text tower: name the model with both towers that it was fine-tuned from, "
            "for instance model.text_source=openai/clip-vit-base-patch16"
        )
    if text_source is not None and not alone:
        raise ConfigError(
            f"model.text_source is {text_source}, but {directory} is no image tower alone: leave "
            "it out, for a model with both towers has its own"
        )


def other_family(directory: Path, text_source: str | Path) -> ConfigError:
    """The error for an image tower and a whole model that are of two families."""
    return ConfigError(
        f"model.text_source is {text_source}, a model of another kind than {directory}: name the "
        "model that this image tower was fine-tuned from"
    )


def check_alike(directory: Path, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Raises a ConfigError if a tower is not built like that of the model that completes it.

    Args:
      directory: the tower's.
      ours, theirs: fields by the names that they have in `config.json`.
    """
    differing = [
        f"{name} is {ours[name]} here and {theirs[name]} there"
        for name in ours
        if ours[name] != theirs[name]
    ]
    if differing:
        raise ConfigError(
            f"{directory} is no fine-tuned image tower of model.text_source: "
            f"{'; '.join(differing)}: name the model that it was fine-tuned from"
        )


def laid_over(directory: Path, tower: Tensors, whole: Tensors) -> Tensors:
    """The tensors of a whole model with an image tower's in place of its own.

    Args:
      directory: the tower's, for messages.
      tower: with or without the prefix `VISION`, and with a projection or without.
      whole: under Hugging Face's names.

    Raises:
      UserError: the tower's checkpoint holds other tensors than those of an image tower.
    """
    if not any(name.startswith(VISION) for name in tower):
        tower = {name if name == PROJECTION else VISION + name: tower[name] for name in tower}
    strange = [name for name in tower if name != PROJECTION and not name.startswith(VISION)]
    if strange:
        raise UserError(
            f"{directory}: its {CONFIG} describes an image tower alone, but its weights hold "
            f"{some(strange)}, too: weights and {CONFIG} must come from one model"
        )
    rest = {name: read for name, read in whole.items() if not name.startswith(VISION)}
    return rest | dict(tower)
