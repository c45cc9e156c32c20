"""CLIP checkpoints on disk: a directory in, a directory out; formats and what lies beside."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from flax.serialization import msgpack_restore
from huggingface_hub.errors import StrictDataclassError

from magmax_jax.errors import UserError
from magmax_jax.io import hub
from magmax_jax.io.atomic import new_directory
from magmax_jax.io.json_files import read_object
from magmax_jax.io.safetensors.reader import open_tensors
from magmax_jax.io.safetensors.writer import DirectoryWriter
from magmax_jax.models.clip import conversion, other_formats
from magmax_jax.models.clip.config import CLIPConfig
from magmax_jax.models.clip.conversion import DTYPES, Tensors
from magmax_jax.models.hugging_face import transformers

OPENCLIP = "open_clip_config.json"


@dataclass(frozen=True, eq=False)
class Companions:
    """What lies beside the weights and is saved with them."""

    tokenizer: Any = None
    """A transformers tokenizer, or None where the checkpoint has none."""
    preprocessor: dict | None = None
    """The content of `preprocessor_config.json`, or None."""


@dataclass(frozen=True)
class Checkpoint:
    """A directory, read: its tensors under Hugging Face's names, each loaded when called."""

    directory: Path
    config: CLIPConfig
    tensors: Tensors
    companions: Companions


def read(source: str | Path) -> Checkpoint:
    """Opens the checkpoint that a directory or hub id holds.

    Raises:
      UserError: one sentence on what is missing or unreadable, with its path.
    """
    directory = hub.locate(source)
    weights = [name for name in hub.WEIGHTS if (directory / name).exists()]
    if weights == [hub.MSGPACK]:
        tensors = other_formats.flax_tensors(_msgpack(directory / hub.MSGPACK))
    else:
        found = open_tensors(directory)
        tensors = {name: functools.partial(found.load, name) for name in found.tensors}
    if other_formats.is_openclip(tensors):
        tensors = other_formats.openclip_tensors(tensors)
    return Checkpoint(directory, read_config(directory), tensors, _companions(directory))


def write(
    directory: Path,
    config: CLIPConfig,
    state: nnx.State,
    companions: Companions,
    dtype: str,
) -> None:
    """Writes a directory that transformers loads; it appears whole or not at all.

    Raises:
      UserError: the directory holds something already, the dtype is none that checkpoints have, or
        the disk refuses it.
    """
    if dtype not in DTYPES:
        raise UserError(f"{directory}: dtype {dtype!r} is not written, use {', '.join(DTYPES)}")
    kind = np.dtype(dtype)
    hf_config = config.to_hf()
    hf_config.dtype = dtype
    size = config.vision.image_size
    preprocessor = (companions.preprocessor or {}) | {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": size},
        "crop_size": {"height": size, "width": size},
    }
    with new_directory(directory) as partial:
        hf_config.save_pretrained(partial)
        if companions.tokenizer is not None:
            companions.tokenizer.save_pretrained(partial)
        (partial / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")
        shapes = conversion.hf_shapes(config, state)
        layout = {name: (kind, shape) for name, shape in shapes.items()}
        with DirectoryWriter(partial, layout) as writer:
            for name, tensor in conversion.to_hf(config, state):
                writer.write(name, tensor.astype(kind, copy=False))


def _msgpack(path: Path) -> dict[str, Any]:
    try:
        tree = msgpack_restore(path.read_bytes())
    except Exception as error:  # msgpack raises its own, struct's and numpy's errors on torn files
        raise UserError(f"{path} is not a whole msgpack file ({error}): fetch it again") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds no tree of tensors: fetch it again")
    return tree


def read_config(directory: Path) -> CLIPConfig:
    """What `config.json` describes, or else `open_clip_config.json`.

    Raises:
      UserError: there is neither, or it describes no CLIP that is computed here.
    """
    path = directory / "config.json"
    config, openclip = read_object(path), read_object(directory / OPENCLIP)
    if config is None and openclip is None:
        raise UserError(
            f"{directory} has neither config.json nor {OPENCLIP}: "
            "put the model's own config.json there"
        )
    try:
        if openclip is not None and (config is None or config.get("model_type") != "clip"):
            path = directory / OPENCLIP
            config = {"model_type": "clip"} | other_formats.openclip_config(openclip)
        if config.get("model_type") != "clip":
            raise UserError(
                f"model_type is {config.get('model_type')!r}, not 'clip': "
                "choose a CLIP with both towers"
            )
        return CLIPConfig.from_hf(transformers().CLIPConfig.from_dict(config))
    except (UserError, StrictDataclassError, TypeError) as error:
        raise UserError(f"{path}: {error}") from None


def _companions(directory: Path) -> Companions:
    preprocessor = read_object(directory / "preprocessor_config.json")
    if preprocessor is None:
        preprocessor = other_formats.openclip_preprocessor(read_object(directory / OPENCLIP) or {})
    tokenizer = None
    if any((directory / n).exists() for n in ("tokenizer.json", "vocab.json")):
        try:
            tokenizer = transformers().AutoTokenizer.from_pretrained(
                directory, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # the tokenizers library raises bare exceptions on broken files
            raise UserError(
                f"{directory}: the tokenizer cannot be read ({error}): fetch its files again"
            ) from None
    return Companions(tokenizer, preprocessor)
