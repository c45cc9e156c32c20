"""Small synthetic CLIP checkpoints: Hugging Face's names and shapes, written out."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

CONFIGS = {
    # Like OpenAI's: quick_gelu, and an eos_token_id 2 that stands for "the highest id".
    "legacy": {
        "model_type": "clip",
        "projection_dim": 12,
        "vision_config": {
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 40,
            "image_size": 32,
            "patch_size": 8,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
        },
        "text_config": {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 32,
            "max_position_embeddings": 9,
            "vocab_size": 50,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
            "bos_token_id": 48,
            "pad_token_id": 0,
            "eos_token_id": 2,
        },
    },
    # Like LAION's and TinyCLIP's: exact gelu, an EOS below the highest id, unequal eps, odd widths.
    "modern": {
        "model_type": "clip",
        "projection_dim": 10,
        "vision_config": {
            "hidden_size": 15,
            "num_hidden_layers": 3,
            "num_attention_heads": 3,
            "intermediate_size": 28,
            "image_size": 20,
            "patch_size": 4,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-2,
        },
        "text_config": {
            "hidden_size": 20,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 24,
            "max_position_embeddings": 11,
            "vocab_size": 60,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-3,
            "bos_token_id": 40,
            "eos_token_id": 41,
            "pad_token_id": 41,
        },
    },
}

# Every text ends in its EOS, followed by ids that the pooled feature must not see.
IDS = {
    "legacy": np.array(
        [[48, 7, 5, 49, 1, 1, 1], [48, 3, 11, 30, 9, 21, 49], [48, 49, 0, 0, 0, 0, 4]]
    ),
    "modern": np.array([[40, 59, 5, 41, 41, 41], [40, 3, 58, 30, 9, 41], [40, 41, 59, 1, 41, 2]]),
}
SIZES = {"legacy": (32, 16), "modern": (20, 36)}
"""Each checkpoint's image size, and a smaller or larger one."""


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Every tensor of a transformers `CLIPModel` with its shape."""
    image, text, p = config["vision_config"], config["text_config"], config["projection_dim"]
    d, patch = image["hidden_size"], image["patch_size"]
    positions = (image["image_size"] // patch) ** 2 + 1
    found = {
        "logit_scale": (),
        "visual_projection.weight": (p, d),
        "text_projection.weight": (p, text["hidden_size"]),
        "vision_model.embeddings.class_embedding": (d,),
        "vision_model.embeddings.patch_embedding.weight": (d, 3, patch, patch),
        "vision_model.embeddings.position_embedding.weight": (positions, d),
    }
    found |= norm("vision_model.pre_layrnorm", d)
    found |= blocks("vision_model", image) | norm("vision_model.post_layernorm", d)
    d = text["hidden_size"]
    found["text_model.embeddings.token_embedding.weight"] = (text["vocab_size"], d)
    found["text_model.embeddings.position_embedding.weight"] = (text["max_position_embeddings"], d)
    return found | blocks("text_model", text) | norm("text_model.final_layer_norm", d)


def weights(config: dict, dtype=np.float32) -> dict[str, np.ndarray]:
    """These tensors, filled with the same numbers on every machine (RandomState is stable)."""
    return filled(shapes(config), dtype)


def filled(shapes: dict[str, tuple[int, ...]], dtype=np.float32) -> dict[str, np.ndarray]:
    """Tensors with the given names and shapes, the same on every machine."""
    random = np.random.RandomState(20)
    found = {}
    for name, shape in sorted(shapes.items()):
        noise = random.uniform(-0.5, 0.5, shape)
        norm = "norm" in name and name.endswith("weight")
        found[name] = np.asarray(2.0 + noise if name == "logit_scale" else norm + noise, dtype)
    return found


def pixels(size: int) -> np.ndarray:
    """Three images (3, size, size, 3) in [-2, 2], float32."""
    return np.random.RandomState(size).uniform(-2, 2, (3, size, size, 3)).astype(np.float32)


def write_checkpoint(directory: Path, config: dict, tensors: dict[str, np.ndarray]) -> Path:
    """A directory with `config.json` and `model.safetensors`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def norm(name: str, d: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (d,), f"{name}.bias": (d,)}


def blocks(tower: str, config: dict) -> dict[str, tuple[int, ...]]:
    d, m = config["hidden_size"], config["intermediate_size"]
    found = {}
    for i in range(config["num_hidden_layers"]):
        block = f"{tower}.encoder.layers.{i}"
        for x in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found[f"{block}.self_attn.{x}.weight"] = (d, d)
            found[f"{block}.self_attn.{x}.bias"] = (d,)
        found |= norm(f"{block}.layer_norm1", d) | norm(f"{block}.layer_norm2", d)
        found[f"{block}.mlp.fc1.weight"], found[f"{block}.mlp.fc1.bias"] = (m, d), (m,)
        found[f"{block}.mlp.fc2.weight"], found[f"{block}.mlp.fc2.bias"] = (d, m), (d,)
    return found
