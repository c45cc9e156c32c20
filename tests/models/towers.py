"""Standalone image towers, written as by transformers' classes."""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

VISION, PROJECTION = "vision_model.", "visual_projection.weight"
BUFFER = f"{VISION}embeddings.position_ids"
"""Extra tensor saved by `CLIPVisionModel` of transformers 4 before 4.31."""


def write_tower(
    directory: Path,
    clip: Path,
    *,
    prefix: bool = True,
    projection: bool = False,
    shift: float = 0.0,
    dtype=np.float32,
    extra: dict | None = None,
    **settings,
) -> Path:
    """Writes a CLIP directory's image tower, standalone and without its preprocessor.

    Args:
      prefix: whether names start with "vision_model.".
      projection: whether it is a `CLIPVisionModelWithProjection`.
      shift: added to every entry, instead of fine-tuning.
      extra: further tensors.
      settings: overrides of its configuration.
    """
    config = json.loads((clip / "config.json").read_text())
    kind = "CLIPVisionModelWithProjection" if projection else "CLIPVisionModel"
    described = config["vision_config"] | {"projection_dim": config["projection_dim"]}
    described |= {"model_type": "clip_vision_model", "architectures": [kind]} | settings
    tensors = load_file(clip / "model.safetensors")
    kept = {name: x for name, x in tensors.items() if name.startswith(VISION)}
    kept |= {PROJECTION: tensors[PROJECTION]} if projection else {}
    kept = {name: (x + np.float32(shift)).astype(dtype) for name, x in kept.items()}
    kept |= extra or {}
    if not prefix:
        kept = {name.removeprefix(VISION): x for name, x in kept.items()}
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(described))
    save_file(kept, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def write_whole(directory: Path, clip: Path, tower: Path) -> Path:
    """Writes a CLIP directory with its image tower replaced by one of `write_tower`."""
    shutil.copytree(clip, directory)
    tensors = load_file(clip / "model.safetensors")
    for name, x in load_file(tower / "model.safetensors").items():
        tensors[name if name == PROJECTION or name.startswith(VISION) else VISION + name] = x
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory
