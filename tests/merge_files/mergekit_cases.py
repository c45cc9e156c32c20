"""Recipes in mergekit's format, of checkpoints with the names and shapes of a small LLaMA."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save_file

LAYERS = 4
MODELS = ("base", "a", "b", "c")
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
    "tie_word_embeddings": False,
}


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (96, 32)}
    for layer in range(LAYERS):
        start = f"model.layers.{layer}."
        shapes |= {
            f"{start}self_attn.q_proj.weight": (32, 32),
            f"{start}self_attn.k_proj.weight": (16, 32),
            f"{start}self_attn.v_proj.weight": (16, 32),
            f"{start}self_attn.o_proj.weight": (32, 32),
            f"{start}mlp.gate_proj.weight": (64, 32),
            f"{start}mlp.up_proj.weight": (64, 32),
            f"{start}mlp.down_proj.weight": (32, 64),
            f"{start}input_layernorm.weight": (32,),
            f"{start}post_attention_layernorm.weight": (32,),
        }
    return shapes | {"model.norm.weight": (32,), "lm_head.weight": (96, 32)}


SHAPES = _shapes()


def tensors(model: str) -> dict[str, np.ndarray]:
    """The base is noise of 0.2; the others change it by 0.02, 0.04 and 0.06."""
    base = np.random.default_rng(0)
    own = np.random.default_rng(MODELS.index(model))
    size = 0.02 * MODELS.index(model)
    return {
        name: (0.2 * base.normal(size=shape) + size * own.normal(size=shape)).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def write_models(directory: Path, dtype: Any = np.float32) -> Path:
    """Writes MODELS below a directory."""
    for model in MODELS:
        (directory / model).mkdir(parents=True)
        (directory / model / "config.json").write_text(json.dumps(CONFIG))
        content = {name: array.astype(dtype) for name, array in tensors(model).items()}
        save_file(content, directory / model / "model.safetensors", metadata={"format": "pt"})
    return directory


def of(method: str, *models: str | tuple[str, dict], base: str | None = "base", **fields: Any):
    """A recipe; a model is a name, or a name with its parameters."""
    listed = [(model, {}) if isinstance(model, str) else model for model in models]
    return {
        "merge_method": method,
        **({"base_model": base} if base else {}),
        "models": [{"model": name, **({"parameters": own} if own else {})} for name, own in listed],
        **fields,
    }


def weighted(*models: str, **own: list) -> list[tuple[str, dict]]:
    """Models with one value each of every parameter."""
    return [(model, {k: v[i] for k, v in own.items()}) for i, model in enumerate(models)]


ABC = ("a", "b", "c")
UNEQUAL = {"weight": [0.5, -0.3, 0.9], "density": [0.3, 0.57, 0.8]}
RECIPES: dict[str, dict] = {
    "linear": of("linear", *weighted(*ABC, weight=[1, 2, 0.5]), base=None),
    "linear_sum": of(
        "linear", *weighted("a", "b", weight=[0.7, 0.7]), base=None, parameters={"normalize": False}
    ),
    "linear_base": of("linear", "a", "b", parameters={"weight": 0.5}),
    "task_arithmetic": of(
        "task_arithmetic", *weighted(*ABC, weight=[0.5, -0.3, 0.9]), parameters={"lambda": 0.7}
    ),
    "ties": of("ties", *weighted(*ABC, **UNEQUAL)),
    "ties_sum": of(
        "ties", *ABC, parameters={"weight": 0.4, "density": 0.29, "normalize": False, "lambda": 2}
    ),
    "ties_rescaled": of("ties", *ABC, parameters={"weight": 1, "density": 0.2, "rescale": True}),
    "breadcrumbs": of(
        "breadcrumbs", *weighted(*ABC, **UNEQUAL), parameters={"gamma": 0.05, "rescale": True}
    ),
    "breadcrumbs_ties": of(
        "breadcrumbs_ties", *ABC, parameters={"weight": 0.6, "density": 0.9, "gamma": 0.3}
    ),
    "model_stock": of("model_stock", *ABC),
    "model_stock_rows": of("model_stock", *ABC, parameters={"filter_wise": True}),
    "slerp": of("slerp", "a", parameters={"t": 0.3}),
    "slerp_listed": of("slerp", "c", "base", parameters={"t": 0.8}),
    "nuslerp": of("nuslerp", *weighted("a", "b", weight=[1, 3]), base=None),
    "nuslerp_base": of("nuslerp", *weighted("a", "b", weight=[1, 3])),
    "nuslerp_rows": of("nuslerp", "a", "b", parameters={"weight": 1, "nuslerp_flatten": False}),
    "nuslerp_columns": of(
        "nuslerp",
        *weighted("a", "b", weight=[2, 1]),
        base=None,
        parameters={"nuslerp_flatten": False, "nuslerp_row_wise": True},
    ),
    "multislerp": of("multislerp", *weighted(*ABC, weight=[1, 2, 3]), base=None),
    "multislerp_base": of(
        "multislerp",
        *weighted(*ABC, weight=[0.2, 0.3, 0.4]),
        parameters={"normalize_weights": False},
    ),
    "sce": of("sce", *ABC),
    "sce_top": of("sce", *ABC, parameters={"select_topk": 0.37}),
    "gradients": of(
        "ties",
        ("a", {"weight": [0, 1], "density": [0.2, 0.9, 0.4]}),
        ("b", {"weight": [{"filter": "mlp", "value": [1, 0]}, {"value": 0.5}]}),
        parameters={"density": 0.5},
    ),
    "slerp_gradient": of(
        "slerp",
        "a",
        parameters={
            "t": [
                {"filter": "self_attn", "value": [0, 0.5, 0.3, 0.7, 1]},
                {"filter": "mlp", "value": [1, 0.5, 0.7, 0.3, 0]},
                {"value": 0.5},
            ]
        },
    ),
    "linear_filter": of(
        "linear",
        ("a", {"weight": [{"filter": "self_attn", "value": 0.2}]}),
        "b",
        base=None,
        parameters={"weight": 1},
    ),
}
"""Recipes without draws; models are named as in MODELS."""
DRAWN: dict[str, dict] = {
    "dare_linear": of("dare_linear", *weighted(*ABC, **UNEQUAL)),
    "dare_ties": of("dare_ties", *weighted(*ABC, **UNEQUAL)),
    "della": of("della", *ABC, parameters={"weight": 0.5, "density": 0.5, "epsilon": 0.2}),
    "della_linear": of("della_linear", "a", parameters={"weight": 1, "density": 0.5}),
}


def write_recipe(recipe: dict, directory: Path, path: Path) -> Path:
    """Writes a recipe of the models below a directory."""
    found = json.loads(json.dumps(recipe))
    for model in found["models"]:
        model["model"] = str(directory / model["model"])
    if "base_model" in found:
        found["base_model"] = str(directory / found["base_model"])
    path.write_text(yaml.safe_dump(found, sort_keys=False))
    return path
