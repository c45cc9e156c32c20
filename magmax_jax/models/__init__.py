"""Models in Flax NNX: CLIP and SigLIP, the protocol of model families, and zero-shot use."""

from magmax_jax.packages import missing_extras_named

with missing_extras_named():
    from magmax_jax.models.auto import (
        abstract_model,
        from_pretrained,
        is_tower_alone,
        known_shape,
    )
    from magmax_jax.models.base import (
        LastMap,
        Model,
        ModelFamily,
        ModelShape,
        Place,
        Towers,
        num_entries,
    )
    from magmax_jax.models.checkpoint import Companions
    from magmax_jax.models.classification import Classified, classify, preprocess, preprocessing_of
    from magmax_jax.models.clip.config import CLIPConfig, TextConfig
    from magmax_jax.models.clip.model import CLIP
    from magmax_jax.models.features import image_features
    from magmax_jax.models.freezing import trainable
    from magmax_jax.models.layers.normalise import normalise
    from magmax_jax.models.layers.patches import VisionConfig
    from magmax_jax.models.siglip.config import SigLIPConfig, SigLIPTextConfig
    from magmax_jax.models.siglip.model import SigLIP
    from magmax_jax.models.zero_shot import tokenize, zero_shot_head

__all__ = [
    "CLIP",
    "CLIPConfig",
    "Classified",
    "Companions",
    "LastMap",
    "Model",
    "ModelFamily",
    "ModelShape",
    "Place",
    "SigLIP",
    "SigLIPConfig",
    "SigLIPTextConfig",
    "TextConfig",
    "Towers",
    "VisionConfig",
    "abstract_model",
    "classify",
    "from_pretrained",
    "image_features",
    "is_tower_alone",
    "known_shape",
    "normalise",
    "num_entries",
    "preprocess",
    "preprocessing_of",
    "tokenize",
    "trainable",
    "zero_shot_head",
]
