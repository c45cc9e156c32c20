"""LoRA adapters: their configuration alone, and with their tensors applied to a model."""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from magmax_jax.errors import UserError
from magmax_jax.io.safetensors.reader import Reader, open_tensors
from magmax_jax.merge_files.lora import adapter as lora
from magmax_jax.merge_files.lora.config import read_config
from tests.merge_files.adapters import CONFIG, SHAPES, adapter, base
from tests.mutants.kind import Kind, in_json, in_safetensors, written

LORA = {
    "peft_type": "LORA", "r": 8, "lora_alpha": 16, "base_model_name_or_path": "x/y",
    "rank_pattern": {"q_proj": 4}, "alpha_pattern": {}, "use_rslora": False,
    "target_modules": ["q_proj"], "bias": "none", "task_type": None,
}  # fmt: skip


def _make(folder: Path) -> None:
    base(folder / "base")
    adapter(folder / "adapter")


def _applied(folder: Path) -> dict[str, np.ndarray]:
    found = lora.find(open_tensors(folder / "adapter"))
    if found is None:
        raise UserError("no adapter")
    model, _ = found.applied(open_tensors(folder / "base"))
    with Reader() as reader:
        return {name: reader.whole(tensor) for name, tensor in model.tensors.items()}


def _as_multiplied(folder: Path, found: dict[str, np.ndarray]) -> bool:
    """Whether every tensor is theta_0's plus the scaled product of two matrices of the file."""
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    expected = load_file(folder / "base" / "model.safetensors")
    if config | {"lora_alpha": 0, "r": 1} != CONFIG | {"lora_alpha": 0, "r": 1}:
        return found.keys() == expected.keys()  # its own meaning
    scale = config.get("lora_alpha", 8) / config.get("r", 8)  # peft's defaults
    try:
        theirs = load_file(folder / "adapter" / "adapter_model.safetensors")
    except SafetensorError:
        return False
    for name in SHAPES:
        stem = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        a, b = theirs.pop(f"{stem}A.weight", None), theirs.pop(f"{stem}B.weight", None)
        if a is not None and b is not None:
            with np.errstate(all="ignore"):
                expected[name] = expected[name] + scale * (b.astype(float) @ a.astype(float))
    if theirs:
        return True  # other names, with their own meaning
    with np.errstate(all="ignore"):
        return all(
            np.allclose(found[name], each.astype(np.float32), 1e-4, 1e-4, equal_nan=True)
            for name, each in expected.items()
        )


KINDS = {
    "adapter": Kind(
        "adapter_config.json", written("adapter_config.json", LORA), read_config, in_json
    ),
    "adapter, config": Kind(
        "adapter/adapter_config.json", _make, _applied, in_json, _as_multiplied
    ),
    "adapter, tensors": Kind(
        "adapter/adapter_model.safetensors", _make, _applied, in_safetensors, _as_multiplied
    ),
}
