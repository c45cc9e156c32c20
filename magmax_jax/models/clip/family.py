"""CLIP as a registered family."""

from magmax_jax.models import towers
from magmax_jax.models.base import LastMap, ModelFamily, Towers
from magmax_jax.models.checkpoint import OPENCLIP
from magmax_jax.models.clip.checkpoint import is_tower_alone, read_config
from magmax_jax.models.clip.config import CLIPConfig, TextConfig
from magmax_jax.models.clip.model import CLIP
from magmax_jax.models.layers.patches import VisionConfig
from magmax_jax.registry import MODEL_FAMILIES


def _published(width: int, layers: int, patch: int, text: int, projection: int) -> CLIPConfig:
    """A CLIP of Radford et al., 2021 (arXiv 2103.00020, table 20), at 224 pixels."""

    def tower(width: int, layers: int) -> dict:
        sizes = {"width": width, "layers": layers, "heads": width // 64, "mlp": 4 * width}
        return sizes | {"activation": "quick_gelu", "epsilon": 1e-5}

    return CLIPConfig(
        VisionConfig(**tower(width, layers), image_size=224, patch_size=patch),
        TextConfig(**tower(text, 12), vocabulary=49408, context=77, eos=49407),
        projection,
    )


MODEL_FAMILIES.register(
    CLIPConfig.model_type,
    ModelFamily(
        shape_of=read_config,
        load=CLIP.from_pretrained,
        init=lambda config, rngs: CLIP(config, rngs=rngs),
        published={
            "openai/clip-vit-base-patch32": _published(768, 12, 32, 512, 512),
            "openai/clip-vit-base-patch16": _published(768, 12, 16, 512, 512),
            "openai/clip-vit-large-patch14": _published(1024, 24, 14, 768, 768),
        },
        recognises=lambda directory: (directory / OPENCLIP).exists(),
        towers=Towers(
            is_tower_alone,
            towers.shape_of,
            lambda tower, whole, size, dtype: CLIP.from_pretrained(tower, size, dtype, whole),
        ),
        last_map=LastMap(kernel="projection.kernel", bias="post_norm.bias"),
    ),
)
