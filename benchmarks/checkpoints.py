"""The checkpoints to merge: random models around one base model, reproducible."""

import json
import shutil
from pathlib import Path
from typing import Literal

import ml_dtypes
import numpy as np
from flax import nnx
from safetensors.numpy import load_file, save_file

from benchmarks.peers.merge import WEIGHTS
from benchmarks.workloads import SIZES
from magmax_jax.models import CLIP, CLIPConfig
from magmax_jax.models.conversion import hf_shapes

SPREAD, CHANGE = 2e-2, 1e-3
"""Standard deviations of theta_0's entries and of a task's changes to them."""

SEVEN_B = "7b"
LAYERS, WIDTH, INNER, KEYS, VOCABULARY = 2, 4096, 14336, 1024, 32000
"""Dimensions of the 7B model: Mistral's, except for the number of layers (Mistral has 32)."""
SHARDS = 4
"""Number of files of a 7B model."""

Size = Literal["vit-b16", "small", "tiny", "7b"]
Shapes = dict[str, tuple[int, ...]]


def tensor_shapes(config: CLIPConfig) -> Shapes:
    """Shapes of all tensors that Hugging Face's `CLIPModel` saves, by name; allocates nothing."""
    clip = nnx.eval_shape(lambda: CLIP(config, rngs=nnx.Rngs(0)))
    return hf_shapes(config.entries, nnx.state(clip))


def seven_b_shapes() -> Shapes:
    """Shapes of the tensors of a Mistral 7B with few layers, by name."""
    matrices = {
        "self_attn.q_proj": (WIDTH, WIDTH),
        "self_attn.k_proj": (KEYS, WIDTH),
        "self_attn.v_proj": (KEYS, WIDTH),
        "self_attn.o_proj": (WIDTH, WIDTH),
        "mlp.gate_proj": (INNER, WIDTH),
        "mlp.up_proj": (INNER, WIDTH),
        "mlp.down_proj": (WIDTH, INNER),
    }
    norms = ("input_layernorm", "post_attention_layernorm")
    shapes: Shapes = {"model.embed_tokens.weight": (VOCABULARY, WIDTH)}
    for i in range(LAYERS):
        layer = f"model.layers.{i}"
        shapes |= {f"{layer}.{name}.weight": shape for name, shape in matrices.items()}
        shapes |= {f"{layer}.{name}.weight": (WIDTH,) for name in norms}
    return shapes | {"model.norm.weight": (WIDTH,), "lm_head.weight": (VOCABULARY, WIDTH)}


def weights(directory: Path) -> list[Path]:
    """The files of a checkpoint's tensors."""
    return sorted(directory.glob("*.safetensors"))


def make_checkpoints(work: Path, size: str, models: int) -> list[Path]:
    """Directories of theta_0 ... theta_N as transformers saves them: float32 in one file; "7b" in
    bfloat16 shards.

    Args:
      work: checkpoints from an earlier call are reused.
      models: N.
    """
    shapes = seven_b_shapes() if size == SEVEN_B else tensor_shapes(SIZES[size])
    paths = [work / size / f"theta_{t}" for t in range(models + 1)]
    missing = [t for t, path in enumerate(paths) if not path.exists()]
    for t in missing:
        theta = _normal(shapes, SPREAD if t == 0 else CHANGE, t)
        if t > 0:
            for file in weights(paths[0]):
                for name, value in load_file(file).items():
                    theta[name] += value.astype(np.float32)
        # Written under another name until complete, because existing directories are reused.
        partial = paths[t].with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        if size == SEVEN_B:
            _save_shards(theta, partial)
        else:
            save_file(theta, partial / WEIGHTS, metadata={"format": "pt"})
            SIZES[size].to_hf().save_pretrained(partial)
        partial.rename(paths[t])
    return paths


def _save_shards(theta: dict[str, np.ndarray], directory: Path) -> None:
    """Saves bfloat16 shards of about equal size, with the index and a configuration."""
    total, filled = sum(value.size for value in theta.values()), 0
    shards: list[dict[str, np.ndarray]] = [{} for _ in range(SHARDS)]
    for name, value in theta.items():
        shards[SHARDS * filled // total][name] = value.astype(ml_dtypes.bfloat16)
        filled += value.size
    where = {}
    for i, shard in enumerate(shards, 1):
        file = f"model-{i:05}-of-{SHARDS:05}.safetensors"
        save_file(shard, directory / file, metadata={"format": "pt"})
        where |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": 2 * total}, "weight_map": where}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": VOCABULARY,
        "dtype": "bfloat16",
    }
    (directory / "config.json").write_text(json.dumps(config))


def _normal(shapes: Shapes, deviation: float, t: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(t)
    return {
        name: np.asarray(random.standard_normal(shape, np.float32) * np.float32(deviation))
        for name, shape in shapes.items()
    }


def compare(ours: Path, theirs: Path) -> str:
    """How far the weights in two directories differ; loads both into memory.

    Zeros of different sign count as different.
    """
    a, b = (
        {n: x for f in weights(path) for n, x in load_file(f).items()} for path in (ours, theirs)
    )
    if not a or not b:
        return "not compared: no file of tensors"
    if {n: (x.shape, x.dtype) for n, x in a.items()} != {
        n: (x.shape, x.dtype) for n, x in b.items()
    }:
        return "not compared: other tensors"
    differing = sum(int(np.count_nonzero(_bits(a[n]) != _bits(b[n]))) for n in a)
    if not differing:
        return "bit-identical"
    largest = np.max([np.abs(a[n] - b[n]).max().astype(np.float32) for n in a])
    where = f"{differing} entries"
    if differing >= 10:
        where = f"{100 * differing / sum(x.size for x in a.values()):.2g} % of entries"
    return f"differs by up to {largest:.1e}, in {where}"


def _bits(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1).view(f"u{array.dtype.itemsize}")
