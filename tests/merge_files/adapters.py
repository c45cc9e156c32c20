"""Small made-up LoRA adapters in peft's format, and their effect in NumPy."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tests.merge_files.conftest import write

SHAPES = {
    "model.layers.0.q_proj.weight": (12, 8),
    "model.layers.0.v_proj.weight": (8, 8),
    "model.layers.1.q_proj.weight": (12, 8),
    "model.embed_tokens.weight": (20, 8),
    "model.conv.weight": (6, 4, 3, 3),
    "model.norm.weight": (8,),
    "model.norm.bias": (8,),
    "score.weight": (3, 8),
}
CONFIG = {
    "peft_type": "LORA", "r": 2, "lora_alpha": 6, "base_model_name_or_path": "base", "bias": "none",
    "fan_in_fan_out": False, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": True,
}  # fmt: skip
Q0, V0, Q1 = (name.removesuffix(".weight") for name in list(SHAPES)[:3])


def random(shape: tuple[int, ...], seed: int, dtype=np.float32) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def base(directory: Path, dtype=np.float32) -> dict[str, np.ndarray]:
    """Writes theta_0 and returns it."""
    made = {name: random(shape, i, dtype) for i, (name, shape) in enumerate(SHAPES.items())}
    write(directory, made)
    return made


def matrices(module: str, out: int, into: int, rank: int = 2, seed: int = 0, dtype=np.float32):
    """A linear module's tensors in an adapter, with peft's names."""
    return {
        f"base_model.model.{module}.lora_A.weight": random((rank, into), seed + 100, dtype),
        f"base_model.model.{module}.lora_B.weight": random((out, rank), seed + 200, dtype),
    }


def adapter(directory: Path, tensors: dict[str, np.ndarray] | None = None, seed: int = 0, **config):
    """Writes an adapter and returns its tensors; by default for all linear modules."""
    if tensors is None:
        linear = ((Q0, 12), (V0, 8), (Q1, 12))
        made = [matrices(m, out, 8, seed=seed + i) for i, (m, out) in enumerate(linear)]
        tensors = made[0] | made[1] | made[2]
    directory.mkdir(parents=True)
    save_file(tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    (directory / "adapter_config.json").write_text(json.dumps(CONFIG | config))
    return tensors


def delta(tensors: dict[str, np.ndarray], module: str, scale: float = 3.0) -> np.ndarray:
    """scale B A of a linear module, float64."""
    a, b = (tensors[f"base_model.model.{module}.lora_{which}.weight"] for which in "AB")
    return scale * (b.astype(np.float64) @ a.astype(np.float64))
