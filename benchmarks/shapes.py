"""The CLIPs that are trained and merged: two published ones, and two smaller ones for trials."""

from dataclasses import dataclass

from flax import nnx

from magmax_jax.models import CLIP, CLIPConfig, TextConfig, VisionConfig
from magmax_jax.models.conversion import hf_shapes

Shapes = dict[str, tuple[int, ...]]
"""Tensor name -> shape; kernels are (out, in)."""


@dataclass(frozen=True)
class Size:
    """A CLIP as Hugging Face's `CLIPModel` saves it."""

    model: CLIPConfig

    @property
    def shapes(self) -> Shapes:
        """Of every tensor, without the memory of one."""
        clip = nnx.eval_shape(lambda: CLIP(self.model, rngs=nnx.Rngs(0)))
        return hf_shapes(self.model.entries, nnx.state(clip))


def _size(
    vision: tuple[int, int, int],
    text: tuple[int, int, int],
    projection: int,
    image_size: int,
    patch_size: int,
    vocabulary: int,
    context: int,
) -> Size:
    """Towers are (width, layers, heads); images are square, sides in pixels."""

    def tower(width: int, layers: int, heads: int) -> dict:
        size = {"width": width, "layers": layers, "heads": heads, "mlp": 4 * width}
        return size | {"activation": "quick_gelu", "epsilon": 1e-5}

    return Size(
        CLIPConfig(
            VisionConfig(**tower(*vision), image_size=image_size, patch_size=patch_size),
            TextConfig(
                **tower(*text),
                vocabulary=vocabulary,
                context=context,
                bos=vocabulary - 2,
                eos=vocabulary - 1,
            ),
            projection,
        )
    )


SIZES = {
    "vit-l14": _size((1024, 24, 16), (768, 12, 12), 768, 224, 14, 49408, 77),
    "vit-b16": _size((768, 12, 12), (512, 12, 8), 512, 224, 16, 49408, 77),
    "small": _size((256, 4, 4), (192, 4, 4), 128, 96, 16, 8000, 77),
    "tiny": _size((64, 2, 2), (48, 2, 2), 32, 32, 8, 400, 16),
}
"""CLIP ViT-L/14 and ViT-B/16, 427.6 and 149.6 M parameters, and two of 6.8 and 0.2 M for trials."""
