"""Converts other publishers' tensor names, OpenCLIP's and Flax's, to Hugging Face's."""

import re
from collections.abc import Callable, Container, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.models.clip.config import LEGACY_EOS

Read = Callable[[], np.ndarray]

_OPENCLIP = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final": "text_model.final_layer_norm",
    "logit_scale": "logit_scale",
}
_OPENCLIP_TRANSPOSED = {
    "visual.proj": "visual_projection.weight",
    "text_projection": "text_projection.weight",
}
_OPENCLIP_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


_OPENCLIP_FOREIGN = (
    "timm_model_name",
    "hf_model_name",
    "ls_init_value",
    "attentional_pool",
    "global_average_pool",
    "no_ln_pre",
    "no_causal_mask",
    "embed_cls",
    "norm_kwargs",
    "act_kwargs",
)
"""Keys of an OpenCLIP tower that, if set, make its architecture differ from CLIP's."""


def is_openclip(names: Container[str]) -> bool:
    return "visual.conv1.weight" in names


def openclip_tensors(tensors: Mapping[str, Read]) -> dict[str, Read]:
    """OpenCLIP's tensors by Hugging Face's name; those without a counterpart keep their name."""
    renamed: dict[str, Read] = {}
    for name, read in tensors.items():
        if name != "attn_mask":  # a buffer: the causal mask
            renamed.update(_from_openclip(name, read))
    return renamed


def _from_openclip(name: str, read: Read) -> Iterator[tuple[str, Read]]:
    block = re.fullmatch(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)", name)
    if block:
        tower = "vision_model" if block[1] else "text_model"
        prefix, rest = f"{tower}.encoder.layers.{block[2]}", block[3]
        if rest in ("attn.in_proj_weight", "attn.in_proj_bias"):
            kind = rest.rpartition("_")[2]
            for i, x in enumerate("qkv"):
                yield f"{prefix}.self_attn.{x}_proj.{kind}", partial(_third, read, i)
            return
        stem, _, kind = rest.rpartition(".")
        yield (
            (f"{prefix}.{_OPENCLIP_BLOCK[stem]}.{kind}" if stem in _OPENCLIP_BLOCK else name),
            read,
        )
    elif name in _OPENCLIP_TRANSPOSED:
        yield _OPENCLIP_TRANSPOSED[name], lambda: read().T
    elif name in _OPENCLIP:
        yield _OPENCLIP[name], read
    else:
        stem, _, kind = name.rpartition(".")
        yield (f"{_OPENCLIP[stem]}.{kind}" if stem in _OPENCLIP else name), read


def _third(read: Read, i: int) -> np.ndarray:
    """The i-th of query, key and value, which OpenCLIP stores in one tensor."""
    return np.split(read(), 3)[i]


def openclip_config(config: dict) -> dict:
    """The `model_cfg` of an `open_clip_config.json` as a Hugging Face `config.json`.

    Raises:
      UserError: it describes a model other than OpenAI's CLIP with a vision transformer.
    """
    try:
        model = config["model_cfg"]
        width, image, text = model["embed_dim"], model["vision_cfg"], model["text_cfg"]
        found = [k for k in _OPENCLIP_FOREIGN if image.get(k) or text.get(k)]
        if image.get("pool_type", "tok") != "tok" or text.get("pool_type", "argmax") != "argmax":
            found.append("pool_type")
        # OpenCLIP's default, "lower", is what `tokens.cleaned` does.
        if text.get("tokenizer_kwargs") not in (None, {}, {"clean": "lower"}):
            found.append("tokenizer_kwargs")
        if found or isinstance(image["layers"], list):
            raise UserError(
                f"{', '.join(found) or 'a ResNet tower'} describes another architecture than "
                "CLIP's vision and text transformers: choose a ViT model without it"
            )
        activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
        return {
            "projection_dim": width,
            "vision_config": {
                "hidden_size": image["width"],
                "num_hidden_layers": image["layers"],
                "num_attention_heads": image["width"] // image.get("head_width", 64),
                "intermediate_size": int(image["width"] * image.get("mlp_ratio", 4.0)),
                "image_size": image["image_size"],
                "patch_size": image["patch_size"],
                "hidden_act": activation,
            },
            "text_config": {
                "hidden_size": text["width"],
                "num_hidden_layers": text["layers"],
                "num_attention_heads": text["heads"],
                "intermediate_size": int(text["width"] * text.get("mlp_ratio", 4.0)),
                "max_position_embeddings": text.get("context_length", 77),
                "vocab_size": text.get("vocab_size", 49408),
                "hidden_act": activation,
                "eos_token_id": LEGACY_EOS,  # OpenCLIP pools at the highest id
            },
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"this is not an OpenCLIP configuration ({error!r}): fetch the file again"
        ) from None


def flax_tensors(tree: dict[str, Any]) -> dict[str, Read]:
    """The tree of a `flax_model.msgpack` (transformers' former Flax models) by HF's names.

    Raises:
      ValueError: it is not a tree of arrays.
    """
    if not isinstance(tree, dict):
        raise ValueError("it is not a tree of tensors")
    return dict(_flax_leaves(tree.get("params", tree), ()))


def _flax_leaves(tree: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, Read]]:
    for key, value in tree.items():
        if not isinstance(key, str) or not isinstance(value, dict | np.ndarray | np.generic):
            raise ValueError(f"{key!r} in it names no tensor")
        if isinstance(value, dict):
            yield from _flax_leaves(value, (*path, key))
        elif key == "kernel":
            axes = (3, 2, 0, 1) if value.ndim == 4 else None  # (h, w, in, out) -> (out, in, h, w)
            yield ".".join((*path, "weight")), partial(np.transpose, value, axes)
        else:
            name = "weight" if key in ("scale", "embedding") else key
            yield ".".join((*path, name)), partial(np.asarray, value)
