"""CLIP in Flax NNX: the model, its checkpoints, and the zero-shot head."""

from magmax_jax.models.clip.checkpoint import Companions
from magmax_jax.models.clip.config import CLIPConfig, TextConfig, VisionConfig
from magmax_jax.models.clip.model import CLIP, num_entries
from magmax_jax.models.clip.zero_shot import tokenize, zero_shot_head
from magmax_jax.models.features import image_features, normalise
from magmax_jax.models.freezing import trainable

__all__ = [
    "CLIP",
    "CLIPConfig",
    "Companions",
    "TextConfig",
    "VisionConfig",
    "image_features",
    "normalise",
    "num_entries",
    "tokenize",
    "trainable",
    "zero_shot_head",
]
