"""Reads and writes SigLIP checkpoints on disk."""

from pathlib import Path

from huggingface_hub.errors import StrictDataclassError

from magmax_jax.errors import UserError
from magmax_jax.io import hub
from magmax_jax.io.json_files import read_object
from magmax_jax.models import towers
from magmax_jax.models.checkpoint import (
    CONFIG,
    MISTAKES,
    Companions,
    check_type,
    in_a_line,
    model_type,
    no_configuration,
    open_weights,
    read_preprocessor,
)
from magmax_jax.models.hugging_face import quiet, transformers
from magmax_jax.models.siglip.config import SigLIPConfig
from magmax_jax.models.siglip.tokens import read_tokenizer
from magmax_jax.models.two_towers import Checkpoint

NAFLEX = "siglip2"
"""`model_type` of SigLIP 2's checkpoints for images of any shape; fixed-resolution checkpoints have
SigLIP's own."""
TOWER = "siglip_vision_model"
"""`model_type` in the configuration of a separate image tower."""
PROCESSOR = "SiglipImageProcessor"
"""transformers' class, which squashes the whole image into the square and crops nothing."""
DEFAULT = {"image_processor_type": PROCESSOR}
"""Image processor settings for a model without any: SigLIP's defaults."""


def read(source: str | Path, text_source: str | Path | None = None) -> Checkpoint:
    """Opens the checkpoint in a directory or of a hub id.

    Args:
      text_source: if that is only an image tower, the model that completes it with a text tower,
        scale, bias and tokenizer, and with a preprocessor if the tower has none.

    Raises:
      UserError: something is missing, unreadable or does not fit; the message names its path.
    """
    directory = hub.locate(source)
    if text_source is not None:
        if not is_tower_alone(directory):
            raise towers.needs_no_text_source(directory, text_source)
        tensors = open_weights(directory)
        return towers.completed(directory, tensors, read(text_source), PROCESSOR)
    config = read_config(directory)
    preprocessor = read_preprocessor(directory, PROCESSOR) or DEFAULT
    companions = Companions(read_tokenizer(directory), preprocessor)
    return Checkpoint(directory, config, open_weights(directory), companions)


def is_naflex(directory: Path) -> bool:
    """Whether a directory holds a SigLIP 2 for images of any shape."""
    return model_type(directory) == NAFLEX


def is_tower_alone(directory: Path) -> bool:
    """Whether a directory holds a SigLIP's image tower without its text tower."""
    return model_type(directory) == TOWER


def read_config(directory: Path) -> SigLIPConfig:
    """The shape described by `config.json`.

    Raises:
      UserError: there is none, or it does not describe a supported SigLIP.
    """
    path = directory / CONFIG
    config = read_object(path)
    if config is None:
        raise no_configuration(directory)
    if is_tower_alone(directory):
        raise towers.needs_text_source(directory, "google/siglip-base-patch16-224")
    try:
        if config.get("model_type") == NAFLEX:
            raise UserError(
                f"model_type is {NAFLEX!r}, a NaFlex checkpoint, which takes images in their "
                "native shapes; here all images of a model have one size: choose a SigLIP 2 of a "
                "fixed resolution, such as google/siglip2-base-patch16-224"
            )
        check_type(config, SigLIPConfig.model_type, "SigLIP")
        with quiet():
            return SigLIPConfig.from_hf(transformers().SiglipConfig.from_dict(config))
    except (UserError, StrictDataclassError, *MISTAKES) as error:
        raise UserError(f"{path}: {in_a_line(error)}") from None
