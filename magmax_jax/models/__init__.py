"""CLIP in Flax NNX: the model, its checkpoints, and the zero-shot head."""

from magmax_jax.models.checkpoint import Companions
from magmax_jax.models.clip import CLIP, normalise, num_entries
from magmax_jax.models.config import CLIPConfig, TextConfig, VisionConfig
from magmax_jax.models.freezing import trainable
from magmax_jax.models.zero_shot import tokenize, zero_shot_head

__all__ = [
    "CLIP",
    "CLIPConfig",
    "Companions",
    "TextConfig",
    "VisionConfig",
    "normalise",
    "num_entries",
    "tokenize",
    "trainable",
    "zero_shot_head",
]
