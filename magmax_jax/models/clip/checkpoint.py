"""Reads and writes CLIP checkpoints on disk."""

from pathlib import Path

from flax.serialization import msgpack_restore
from huggingface_hub.errors import StrictDataclassError

from magmax_jax.errors import UserError
from magmax_jax.io import hub
from magmax_jax.io.json_files import read_object
from magmax_jax.models import towers
from magmax_jax.models.checkpoint import (
    MISTAKES,
    OPENCLIP,
    Companions,
    check_type,
    in_a_line,
    model_type,
    no_configuration,
    open_weights,
    read_preprocessor,
    read_tokenizer,
)
from magmax_jax.models.clip import other_formats
from magmax_jax.models.clip.config import CLIPConfig
from magmax_jax.models.clip.openclip_preprocessor import openclip_preprocessor
from magmax_jax.models.conversion import Tensors
from magmax_jax.models.hugging_face import transformers
from magmax_jax.models.two_towers import Checkpoint

PROCESSOR = "CLIPImageProcessor"
"""transformers' class, which resizes the short side and crops the centre."""
TOWER = "clip_vision_model"
"""`model_type` in the configuration of a separate image tower."""


def read(source: str | Path, text_source: str | Path | None = None) -> Checkpoint:
    """Opens the checkpoint in a directory or of a hub id.

    Args:
      text_source: if that is only an image tower, the model that completes it with a text tower, a
        temperature, a tokenizer and, if the tower's checkpoint has none, a projection and a
        preprocessor.

    Raises:
      UserError: something is missing, unreadable or does not fit; the message names its path.
    """
    directory = hub.locate(source)
    tensors, openclip = _tensors(directory)
    if text_source is None:
        companions = _companions(directory, openclip)
        return Checkpoint(directory, read_config(directory), tensors, companions)
    if not is_tower_alone(directory):
        raise towers.needs_no_text_source(directory, text_source)
    return towers.completed(directory, tensors, read(text_source))


def _tensors(directory: Path) -> tuple[Tensors, bool]:
    """Every tensor in a directory, by Hugging Face's name, and whether it had OpenCLIP's."""
    weights = [name for name in hub.WEIGHTS if (directory / name).exists()]
    if weights == [hub.MSGPACK]:
        tensors = _flax(directory / hub.MSGPACK)
    else:
        tensors = open_weights(directory)
    openclip = other_formats.is_openclip(tensors)
    return (other_formats.openclip_tensors(tensors) if openclip else tensors), openclip


def _flax(path: Path) -> Tensors:
    try:
        return other_formats.flax_tensors(msgpack_restore(path.read_bytes()))
    except Exception as error:  # on torn files msgpack raises its own, struct's and numpy's errors
        why = in_a_line(error) or type(error).__name__
        raise UserError(f"{path} is not a complete msgpack file ({why}): fetch it again") from None


def read_config(directory: Path) -> CLIPConfig:
    """The shape described by `config.json`, or else by `open_clip_config.json`.

    Raises:
      UserError: there is neither, or it does not describe a supported CLIP.
    """
    path = directory / "config.json"
    config, openclip = read_object(path), read_object(directory / OPENCLIP)
    if config is None and openclip is None:
        raise no_configuration(directory)
    if is_tower_alone(directory):
        raise towers.needs_text_source(directory, "openai/clip-vit-base-patch16")
    config = config or {}
    try:
        if openclip is not None and config.get("model_type") != CLIPConfig.model_type:
            path = directory / OPENCLIP
            config = {"model_type": CLIPConfig.model_type} | other_formats.openclip_config(openclip)
        check_type(config, CLIPConfig.model_type, "CLIP")
        return CLIPConfig.from_hf(transformers().CLIPConfig.from_dict(config))
    except (UserError, StrictDataclassError, *MISTAKES) as error:
        raise UserError(f"{path}: {in_a_line(error)}") from None


def is_tower_alone(directory: Path) -> bool:
    """Whether a directory holds a CLIP's image tower without its text tower."""
    return model_type(directory) == TOWER and not (directory / OPENCLIP).exists()


def _companions(directory: Path, openclip: bool) -> Companions:
    """`openclip`: whether the weights are OpenCLIP's; then its preprocessing is the model's own."""
    preprocessor = read_preprocessor(directory)
    if openclip or preprocessor is None:
        preprocessor = _openclip_preprocessor(directory) or preprocessor
    return Companions(read_tokenizer(directory), preprocessor)


def _openclip_preprocessor(directory: Path) -> dict | None:
    path = directory / OPENCLIP
    try:
        return openclip_preprocessor(read_object(path) or {})
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
