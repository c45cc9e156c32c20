"""CLIP checkpoints on disk: a directory in, a directory out; formats and what lies beside."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from flax.serialization import msgpack_restore
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from magmax_jax.errors import UserError
from magmax_jax.models import foreign
from magmax_jax.models.config import CLIPConfig
from magmax_jax.models.conversion import DTYPES, Tensors
from magmax_jax.models.hugging_face import transformers
from magmax_jax.storage import hub

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
    weights = next((directory / n for n in hub.WEIGHTS if (directory / n).exists()), None)
    if weights is None:
        raise UserError(hub.no_weights(directory, {p.name for p in directory.iterdir()}))
    if weights.name == hub.MSGPACK:
        tensors = foreign.flax_tensors(_msgpack(weights))
    elif weights.suffix == ".json":
        tensors = _sharded(weights)
    else:
        tensors = _safetensors(weights)
    if foreign.is_openclip(tensors):
        tensors = foreign.openclip_tensors(tensors)
    return Checkpoint(directory, _config(directory), tensors, _companions(directory))


def write(
    directory: Path,
    config: CLIPConfig,
    tensors: Iterable[tuple[str, np.ndarray]],
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
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory} exists already: choose another directory or remove it")
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    hf_config = config.to_hf()
    hf_config.dtype = dtype
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    except OSError as error:
        raise UserError(f"{directory}: cannot be written ({error.strerror})") from None
    try:
        hf_config.save_pretrained(partial)
        if companions.tokenizer is not None:
            companions.tokenizer.save_pretrained(partial)
        size = config.vision.image_size
        preprocessor = (companions.preprocessor or {}) | {
            "image_processor_type": "CLIPImageProcessor",
            "size": {"shortest_edge": size},
            "crop_size": {"height": size, "width": size},
        }
        (partial / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")
        arrays = {name: tensor.astype(kind, copy=False) for name, tensor in tensors}
        save_file(arrays, partial / "model.safetensors", metadata={"format": "pt"})
        # safetensors and mkdtemp write for the owner alone; a model is as open as its config.
        shutil.copymode(partial / "config.json", partial / "model.safetensors")
        partial.chmod(0o755)
        os.replace(partial, directory)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{directory}: cannot be written ({error})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _safetensors(path: Path) -> Tensors:
    try:
        file = safe_open(path, framework="numpy")
        names = file.keys()
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is not a whole safetensors file ({error}): fetch it again"
        ) from None
    return {name: lambda name=name: _tensor(file, name, path) for name in names}


def _tensor(file, name: str, path: Path) -> np.ndarray:
    try:
        return file.get_tensor(name)
    except (SafetensorError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: tensor {name} cannot be read ({error}): fetch the file again"
        ) from None


def _sharded(index: Path) -> Tensors:
    try:
        where = dict(_json(index)["weight_map"])
        shards = {index.parent / shard for shard in where.values()}
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{index} has no weight_map from tensors to shards: fetch it again"
        ) from None
    lost = sorted(shard.name for shard in shards if not shard.exists())
    if lost:
        raise UserError(
            f"{index} names shards that are not there: {', '.join(lost)}: "
            "fetch them into its directory"
        )
    tensors = {}
    for shard in sorted(shards):
        tensors |= _safetensors(shard)
    absent = sorted(set(where) - set(tensors))
    if absent:
        raise UserError(
            f"{index} names tensors that its shards do not hold: {', '.join(absent)}: "
            "fetch the index and the shards again, from one revision"
        )
    return tensors


def _msgpack(path: Path) -> dict[str, Any]:
    try:
        tree = msgpack_restore(path.read_bytes())
    except Exception as error:  # msgpack raises its own, struct's and numpy's errors on torn files
        raise UserError(f"{path} is not a whole msgpack file ({error}): fetch it again") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds no tree of tensors: fetch it again")
    return tree


def _json(path: Path) -> dict | None:
    """The object that a JSON file holds; None where there is no file."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable JSON ({error}): fetch it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object: fetch it again")
    return content


def _config(directory: Path) -> CLIPConfig:
    """What `config.json` describes, or else `open_clip_config.json`."""
    path = directory / "config.json"
    config, openclip = _json(path), _json(directory / OPENCLIP)
    if config is None and openclip is None:
        raise UserError(
            f"{directory} has neither config.json nor {OPENCLIP}: "
            "put the model's own config.json there"
        )
    try:
        if openclip is not None and (config is None or config.get("model_type") != "clip"):
            path = directory / OPENCLIP
            config = {"model_type": "clip"} | foreign.openclip_config(openclip)
        if config.get("model_type") != "clip":
            raise UserError(
                f"model_type is {config.get('model_type')!r}, not 'clip': "
                "choose a CLIP with both towers"
            )
        return CLIPConfig.from_hf(transformers().CLIPConfig.from_dict(config))
    except (UserError, StrictDataclassError, TypeError) as error:
        raise UserError(f"{path}: {error}") from None


def _companions(directory: Path) -> Companions:
    preprocessor = _json(directory / "preprocessor_config.json")
    if preprocessor is None:
        preprocessor = foreign.openclip_preprocessor(_json(directory / OPENCLIP) or {})
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
