"""CLIP checkpoints on disk: a directory in, a directory out; names, formats and what lies beside."""

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
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from transformers import AutoTokenizer
from transformers import CLIPConfig as HFConfig

from magmax_jax.errors import UserError
from magmax_jax.models import foreign, hub
from magmax_jax.models.conversion import Tensors


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
    config: HFConfig
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
    openclip = _json(directory / "open_clip_config.json")
    if foreign.is_openclip(tensors):
        tensors = foreign.openclip_tensors(tensors)
    return Checkpoint(
        directory, _config(directory, openclip), tensors, _companions(directory, openclip)
    )


def write(
    directory: Path,
    config: HFConfig,
    tensors: Iterable[tuple[str, np.ndarray]],
    companions: Companions,
    dtype: str,
) -> None:
    """Writes a directory that transformers loads; it appears whole or not at all.

    Raises:
      UserError: the directory holds something already, or the disk refuses it.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory} exists already: choose another directory or remove it")
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    config.dtype = dtype
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    except OSError as error:
        raise UserError(f"{directory}: cannot be written ({error.strerror})") from None
    try:
        config.save_pretrained(partial)
        if companions.tokenizer is not None:
            companions.tokenizer.save_pretrained(partial)
        size = config.vision_config.image_size
        preprocessor = (companions.preprocessor or {}) | {
            "image_processor_type": "CLIPImageProcessor",
            "size": {"shortest_edge": size},
            "crop_size": {"height": size, "width": size},
        }
        (partial / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")
        arrays = {name: tensor.astype(kind) for name, tensor in tensors}
        save_file(arrays, partial / "model.safetensors", metadata={"format": "pt"})
        partial.chmod(0o755)
        os.replace(partial, directory)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{directory}: cannot be written ({error})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _safetensors(path: Path) -> Tensors:
    try:
        file = safe_open(path, framework="numpy")
        return {name: lambda name=name: _tensor(file, name, path) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is not a whole safetensors file ({error}): fetch it again"
        ) from None


def _tensor(file, name: str, path: Path) -> np.ndarray:
    try:
        return file.get_tensor(name)
    except (SafetensorError, TypeError, ValueError) as error:
        raise UserError(f"{path}: tensor {name} cannot be read ({error})") from None


def _sharded(index: Path) -> Tensors:
    content = _json(index)
    try:
        shards = set(content["weight_map"].values())
    except (KeyError, AttributeError, TypeError):
        raise UserError(
            f"{index} has no weight_map from tensors to shards: fetch it again"
        ) from None
    lost = sorted(shard for shard in shards if not (index.parent / shard).exists())
    if lost:
        raise UserError(f"{index} names shards that are not there: {', '.join(lost)}")
    tensors = {}
    for shard in sorted(shards):
        tensors |= _safetensors(index.parent / shard)
    absent = sorted(set(content["weight_map"]) - set(tensors))
    if absent:
        raise UserError(f"{index} names tensors that its shards do not hold: {', '.join(absent)}")
    return tensors


def _msgpack(path: Path) -> dict[str, Any]:
    try:
        tree = msgpack_restore(path.read_bytes())
    except Exception as error:  # msgpack raises its own, struct's and numpy's errors on torn files
        raise UserError(f"{path} is not a whole msgpack file ({error}): fetch it again") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds no tree of tensors")
    return tree


def _json(path: Path) -> dict | None:
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable JSON ({error})") from None


def _config(directory: Path, openclip: dict | None) -> HFConfig:
    path = directory / "config.json"
    config = _json(path)
    if config is None:
        if openclip is None:
            raise UserError(f"{directory} has neither config.json nor open_clip_config.json")
        return foreign.openclip_config(openclip, str(directory / "open_clip_config.json"))
    if config.get("model_type") == "clip":
        return HFConfig.from_dict(config)
    if openclip is not None:
        return foreign.openclip_config(openclip, str(directory / "open_clip_config.json"))
    raise UserError(f"{path}: model_type is {config.get('model_type')!r}, not 'clip'")


def _companions(directory: Path, openclip: dict | None) -> Companions:
    preprocessor = _json(directory / "preprocessor_config.json")
    if preprocessor is None and openclip is not None:
        preprocessor = foreign.openclip_preprocessor(openclip)
    tokenizer = None
    if any((directory / n).exists() for n in ("tokenizer.json", "vocab.json")):
        try:
            tokenizer = AutoTokenizer.from_pretrained(directory)
        except Exception as error:  # the tokenizers library raises bare exceptions on broken files
            raise UserError(f"{directory}: the tokenizer cannot be read ({error})") from None
    return Companions(tokenizer, preprocessor)
