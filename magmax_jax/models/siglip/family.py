"""SigLIP as a registered family."""

from typing import Any

import jax

from magmax_jax.models import towers
from magmax_jax.models.base import ModelFamily, Towers, ZeroShot
from magmax_jax.models.layers.patches import VisionConfig
from magmax_jax.models.siglip.checkpoint import is_naflex, is_tower_alone, read_config
from magmax_jax.models.siglip.config import SigLIPConfig, SigLIPTextConfig
from magmax_jax.models.siglip.model import SigLIP
from magmax_jax.registry import MODEL_FAMILIES


def _published(sizes: dict[str, int], image: int, patch: int, vocabulary: int) -> SigLIPConfig:
    """A SigLIP whose towers have one shape, for texts of 64 tokens."""
    tower: dict[str, Any] = {**sizes, "activation": "gelu_pytorch_tanh", "epsilon": 1e-6}
    return SigLIPConfig(
        VisionConfig(**tower, image_size=image, patch_size=patch),
        SigLIPTextConfig(**tower, vocabulary=vocabulary, context=64),
    )


_BASE = {"width": 768, "layers": 12, "heads": 12, "mlp": 3072}
_LARGE = {"width": 1024, "layers": 24, "heads": 16, "mlp": 4096}
_SO400M = {"width": 1152, "layers": 27, "heads": 16, "mlp": 4304}
_V1, _V2 = 32000, 256000


def _sigmoid(model: SigLIP, logits: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(logits + model.logit_bias[...])


MODEL_FAMILIES.register(
    SigLIPConfig.model_type,
    ModelFamily(
        shape_of=read_config,
        load=SigLIP.from_pretrained,
        init=lambda config, rngs: SigLIP(config, rngs=rngs),
        published={
            "google/siglip-base-patch16-224": _published(_BASE, 224, 16, _V1),
            "google/siglip-large-patch16-256": _published(_LARGE, 256, 16, _V1),
            "google/siglip-so400m-patch14-384": _published(_SO400M, 384, 14, _V1),
            "google/siglip2-base-patch16-224": _published(_BASE, 224, 16, _V2),
            "google/siglip2-large-patch16-256": _published(_LARGE, 256, 16, _V2),
            "google/siglip2-so400m-patch14-384": _published(_SO400M, 384, 14, _V2),
        },
        recognises=is_naflex,
        towers=Towers(
            is_tower_alone,
            towers.shape_of,
            lambda tower, whole, size, dtype: SigLIP.from_pretrained(tower, size, dtype, whole),
        ),
        zero_shot=ZeroShot(("This is a photo of {}.",), _sigmoid),
    ),
)
