"""Completes separate image towers with parts of the model that they were fine-tuned from.

transformers' `CLIPVisionModel` and `CLIPVisionModelWithProjection` save such checkpoints.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from magmax_jax.errors import ConfigError, UserError, some
from magmax_jax.io.json_files import read_object
from magmax_jax.models.checkpoint import CONFIG, model_type, read_preprocessor
from magmax_jax.models.conversion import Tensors

VISION = "vision_model."
"""Prefix of a tower's tensor names; `CLIPVisionModel` of transformers 5 omits it."""
PROJECTION = "visual_projection.weight"
"""The projection after the tower, in some of these checkpoints."""
BUILT = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
)
"""Fields of an image tower's configuration that fine-tuning never changes."""


def needs_text_source(directory: Path, example: str) -> ConfigError:
    """The error for an image tower without a model to complete it.

    Args:
      directory: the tower's.
      example: hub id of a model of its family.
    """
    return ConfigError(
        f"{directory / CONFIG}: {model_type(directory)!r} is only an image tower, and class names "
        "need a text tower: name the model with both towers that it was fine-tuned from, for "
        f"instance model.text_source={example}"
    )


def needs_no_text_source(directory: Path, text_source: str | Path) -> ConfigError:
    """The error for a text source with a model that already has a text tower."""
    return ConfigError(
        f"model.text_source is {text_source}, but {directory} is not only an image tower: leave it "
        "out, because a model with both towers has its own"
    )


def other_family(directory: Path, text_source: str | Path) -> ConfigError:
    """The error for an image tower and a whole model of different families."""
    return ConfigError(
        f"model.text_source is {text_source}, a different kind of model from {directory}: name the "
        "model that this image tower was fine-tuned from"
    )


def shape_of(directory: Path, whole: Any) -> Any:
    """The shape of a whole model, but with a separate tower's image size.

    Args:
      directory: the tower's.
      whole: a shape with a `vision` and the methods `to_hf` and `from_hf`, like CLIP's.

    Raises:
      UserError: the tower is not supported, or is not built like the whole model's.
    """
    path = directory / CONFIG
    described = whole.to_hf()
    theirs = described.vision_config
    try:
        ours = type(theirs).from_dict(read_object(path) or {})
        names = [name for name in BUILT if getattr(ours, name) != getattr(theirs, name)]
        if names:
            pairs = ((name, getattr(ours, name), getattr(theirs, name)) for name in names)
            raise _unlike(directory, [f"{name} is {a}, not {b}" for name, a, b in pairs])
        described.vision_config = ours
        return replace(whole, vision=whole.from_hf(described).vision)
    except ConfigError:
        raise
    except (UserError, StrictDataclassError, TypeError) as error:
        raise UserError(f"{path}: {error}") from None


def completed(directory: Path, tower: Tensors, whole: Any, processor: str | None = None) -> Any:
    """The checkpoint of a whole model with its image tower replaced.

    The whole model's projection and preprocessor are kept if the tower has none.

    Args:
      directory: the tower's.
      tower: its tensors, with or without the prefix `VISION`, with or without a projection.
      whole: a dataclass like `clip.checkpoint.Checkpoint`; the result has the same type.
      processor: as in `checkpoint.read_preprocessor`.

    Raises:
      UserError: the tower does not fit, or either checkpoint has missing or unexpected tensors.
    """
    config = shape_of(directory, whole.config)
    preprocessor = read_preprocessor(directory, processor)
    companions = whole.companions
    if preprocessor is not None:
        companions = replace(companions, preprocessor=preprocessor)
    tensors = _laid_over(directory, tower, whole)
    return replace(
        whole, directory=directory, config=config, tensors=tensors, companions=companions
    )


def _laid_over(directory: Path, tower: Tensors, whole: Any) -> Tensors:
    if not any(name.startswith(VISION) for name in tower):
        tower = {name if name == PROJECTION else VISION + name: tower[name] for name in tower}
    strange = [name for name in tower if name != PROJECTION and not name.startswith(VISION)]
    if strange:
        raise UserError(
            f"{directory}: its {CONFIG} describes only an image tower, but its weights hold "
            f"{some(strange)}, too: weights and {CONFIG} must come from one model"
        )
    if PROJECTION in tower and PROJECTION in whole.tensors:
        ours, theirs = (tensors[PROJECTION]().shape for tensors in (tower, whole.tensors))
        if ours != theirs:
            raise _unlike(directory, [f"the shape of {PROJECTION} is {ours}, not {theirs}"])
    rest = {name: read for name, read in whole.tensors.items() if not name.startswith(VISION)}
    wanted = (n for entry in whole.config.entries for names in entry.names for n in names)
    lost = [n for n in wanted if not n.startswith(VISION) and n not in rest and n not in tower]
    if lost:
        raise UserError(f"{whole.directory}: its weights lack {some(lost)}: fetch them again")
    return rest | dict(tower)


def _unlike(directory: Path, differing: Sequence[str]) -> ConfigError:
    return ConfigError(
        f"{directory} is not a fine-tuned image tower of model.text_source: {'; '.join(differing)} "
        "as in that model: name the model that it was fine-tuned from"
    )
