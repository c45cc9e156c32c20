"""SigLIP's forward pass in NumPy's float64, from Hugging Face's tensors."""

import math

import numpy as np

Tensors = dict[str, np.ndarray]


def image_features(tensors: Tensors, config: dict, pixels: np.ndarray) -> np.ndarray:
    """Normalised pixels (b, height, width, 3) -> features (b, d) of length one."""
    w = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    tower = config["vision_config"]
    patch, side = tower["patch_size"], tower["image_size"] // tower["patch_size"]
    kernel = w["vision_model.embeddings.patch_embedding.weight"]
    x = np.stack(
        [
            np.einsum("bhwc,dchw->bd", pixels[:, i : i + patch, j : j + patch], kernel)
            for i in range(0, side * patch, patch)
            for j in range(0, side * patch, patch)
        ],
        axis=1,
    )
    x = x + w["vision_model.embeddings.patch_embedding.bias"]
    x = x + w["vision_model.embeddings.position_embedding.weight"]
    x = _norm(w, "vision_model.post_layernorm", _encoder(w, "vision_model", tower, x), tower)
    head, d = "vision_model.head", tower["hidden_size"]
    q, k, v = (
        given @ w[f"{head}.attention.in_proj_weight"][rows].T
        + w[f"{head}.attention.in_proj_bias"][rows]
        for given, rows in (
            (np.broadcast_to(w[f"{head}.probe"], (len(x), 1, d)), slice(d)),
            (x, slice(d, 2 * d)),
            (x, slice(2 * d, None)),
        )
    )
    y = _linear(w, f"{head}.attention.out_proj", _attend(q, k, v, tower["num_attention_heads"]))
    y = y + _mlp(w, f"{head}.mlp", _norm(w, f"{head}.layernorm", y, tower), tower)
    return _unit(y[:, 0])


def text_features(tensors: Tensors, config: dict, ids: np.ndarray) -> np.ndarray:
    """Token ids (b, n) -> features (b, d) of length one."""
    w = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    x = w["text_model.embeddings.token_embedding.weight"][ids]
    x = x + w["text_model.embeddings.position_embedding.weight"][: ids.shape[1]]
    x = _encoder(w, "text_model", config["text_config"], x)
    x = _norm(w, "text_model.final_layer_norm", x, config["text_config"])
    return _unit(_linear(w, "text_model.head", x[:, -1]))


def _encoder(w: Tensors, prefix: str, tower: dict, x: np.ndarray) -> np.ndarray:
    for i in range(tower["num_hidden_layers"]):
        block = f"{prefix}.encoder.layers.{i}"
        y = _norm(w, f"{block}.layer_norm1", x, tower)
        q, k, v = (_linear(w, f"{block}.self_attn.{name}_proj", y) for name in "qkv")
        mixed = _attend(q, k, v, tower["num_attention_heads"])
        x = x + _linear(w, f"{block}.self_attn.out_proj", mixed)
        x = x + _mlp(w, f"{block}.mlp", _norm(w, f"{block}.layer_norm2", x, tower), tower)
    return x


def _attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int) -> np.ndarray:
    q, k, v = (x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3) for x in (q, k, v))
    scores = np.exp(q @ k.swapaxes(2, 3) / math.sqrt(q.shape[-1]))
    mixed = scores / scores.sum(axis=-1, keepdims=True) @ v
    return mixed.transpose(0, 2, 1, 3).reshape(len(q), q.shape[2], -1)


def _mlp(w: Tensors, name: str, x: np.ndarray, tower: dict) -> np.ndarray:
    return _linear(w, f"{name}.fc2", _GELU[tower["hidden_act"]](_linear(w, f"{name}.fc1", x)))


def _linear(w: Tensors, name: str, x: np.ndarray) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _norm(w: Tensors, name: str, x: np.ndarray, tower: dict) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt(x.var(axis=-1, keepdims=True) + tower["layer_norm_eps"])
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


_GELU = {
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
    "gelu_pytorch_tanh": lambda x: (
        x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    ),
}
