"""Names and shapes of the tensors of a CLIP, as Hugging Face's `CLIPModel` saves them."""

from dataclasses import dataclass
from typing import Any

Shapes = dict[str, tuple[int, ...]]
"""Tensor name -> shape; kernels are (out, in)."""


@dataclass(frozen=True)
class Tower:
    width: int
    layers: int
    heads: int

    @property
    def mlp(self) -> int:
        return 4 * self.width


@dataclass(frozen=True)
class Size:
    """Both towers; images are square, of `image_size` pixels in patches of `patch_size`."""

    vision: Tower
    text: Tower
    projection: int
    image_size: int
    patch_size: int
    vocabulary: int
    context: int

    @property
    def shapes(self) -> Shapes:
        """Every tensor, in the order of the forward pass."""
        image, text, vision = "vision_model", "text_model", self.vision
        patches = (self.image_size // self.patch_size) ** 2
        return {
            f"{image}.embeddings.class_embedding": (vision.width,),
            f"{image}.embeddings.patch_embedding.weight": (
                *(vision.width, 3),
                *(self.patch_size, self.patch_size),
            ),
            f"{image}.embeddings.position_embedding.weight": (patches + 1, vision.width),
            **_linear(f"{image}.pre_layrnorm", vision.width),  # the published spelling
            **_layers(image, vision),
            **_linear(f"{image}.post_layernorm", vision.width),
            "visual_projection.weight": (self.projection, vision.width),
            f"{text}.embeddings.token_embedding.weight": (self.vocabulary, self.text.width),
            f"{text}.embeddings.position_embedding.weight": (self.context, self.text.width),
            **_layers(text, self.text),
            **_linear(f"{text}.final_layer_norm", self.text.width),
            "text_projection.weight": (self.projection, self.text.width),
            "logit_scale": (),
        }

    @property
    def config(self) -> dict[str, Any]:
        """The `config.json` that goes with them."""
        return {
            "architectures": ["CLIPModel"],
            "model_type": "clip",
            "dtype": "float32",
            "projection_dim": self.projection,
            "vision_config": _config(self.vision)
            | {"image_size": self.image_size, "patch_size": self.patch_size},
            "text_config": _config(self.text)
            | {
                "vocab_size": self.vocabulary,
                "max_position_embeddings": self.context,
                "bos_token_id": self.vocabulary - 2,
                "eos_token_id": self.vocabulary - 1,
            },
        }


SIZES = {
    "vit-b16": Size(Tower(768, 12, 12), Tower(512, 12, 8), 512, 224, 16, 49408, 77),
    "small": Size(Tower(256, 4, 4), Tower(192, 4, 4), 128, 96, 16, 8000, 77),
    "tiny": Size(Tower(64, 2, 2), Tower(48, 2, 2), 32, 32, 8, 400, 16),
}
"""CLIP ViT-B/16, 149.6 M parameters, and two for trials: of 6.8 M and of 0.2 M."""


def _linear(name: str, *weight: int) -> Shapes:
    """A kernel, or a norm's scale, and its bias."""
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


def _layers(prefix: str, tower: Tower) -> Shapes:
    shapes: Shapes = {}
    for i in range(tower.layers):
        layer, width = f"{prefix}.encoder.layers.{i}", tower.width
        for part in ("q", "k", "v", "out"):
            shapes |= _linear(f"{layer}.self_attn.{part}_proj", width, width)
        shapes |= _linear(f"{layer}.layer_norm1", width)
        shapes |= _linear(f"{layer}.mlp.fc1", tower.mlp, width)
        shapes |= _linear(f"{layer}.mlp.fc2", width, tower.mlp)
        shapes |= _linear(f"{layer}.layer_norm2", width)
    return shapes


def _config(tower: Tower) -> dict[str, Any]:
    return {
        "hidden_size": tower.width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "intermediate_size": tower.mlp,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    }
