"""Models of published shapes without parameters, and the arguments of a step over them."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from magmax_jax.data import Batch, Preprocessing
from magmax_jax.models import CLIP, CLIPConfig, SigLIP, SigLIPConfig, TextConfig, VisionConfig
from magmax_jax.models.siglip.config import SigLIPTextConfig
from magmax_jax.training import Objective
from tests.lowering.programs import shapes

CLASSES, IMAGES, SIDE = 100, 8, 224
PREPROCESSING = Preprocessing(SIDE)


def _tower(width: int, activation: str, epsilon: float) -> dict[str, Any]:
    sizes = {"width": width, "layers": 12, "heads": width // 64, "mlp": 4 * width}
    return sizes | {"activation": activation, "epsilon": epsilon}


CLIP_B16 = CLIPConfig(
    VisionConfig(**_tower(768, "quick_gelu", 1e-5), image_size=SIDE, patch_size=16),
    TextConfig(**_tower(512, "quick_gelu", 1e-5), vocabulary=100, context=77, bos=98, eos=99),
    projection=512,
)
"""ViT-B/16's shape, except for its vocabulary."""
SIGLIP_B16 = SigLIPConfig(
    VisionConfig(**_tower(768, "gelu_pytorch_tanh", 1e-6), image_size=SIDE, patch_size=16),
    SigLIPTextConfig(**_tower(768, "gelu_pytorch_tanh", 1e-6), vocabulary=100, context=64),
)
WIDTHS = {"clip": 512, "siglip": 768}
"""Number of features by family."""


@functools.cache
def model(family: str) -> CLIP | SigLIP:
    """A whole model, as shapes only."""
    kind, config = {"clip": (CLIP, CLIP_B16), "siglip": (SigLIP, SIGLIP_B16)}[family]
    return nnx.eval_shape(lambda: kind(config, rngs=nnx.Rngs(0)))


def tower(dtype: str, family: str = "clip", **options: Any) -> tuple[nnx.GraphDef, nnx.State]:
    """An image tower and its parameters' shapes; `options` are `image_tower`'s."""
    return model(family).image_tower(dtype, **options)


def batch(images: int = IMAGES) -> Batch[np.ndarray]:
    """A batch of the tower's size, all of the first class."""
    return Batch(
        image=np.zeros((images, SIDE, SIDE, 3), np.uint8),
        box=np.tile(np.array([0, 0, SIDE, SIDE], np.int32), (images, 1)),
        label=np.zeros(images, np.int32),
        index=np.arange(images, dtype=np.int32),
        mask=np.ones(images, bool),
    )


def objective(width: int = WIDTHS["clip"]) -> Objective:
    """Shapes of a task's objective. Its classes and their heads are arrays, so every kind of
    scenario and every method has the same program."""
    return shapes(
        Objective(
            head=jnp.zeros((width, CLASSES)),
            classes=jnp.ones(CLASSES, bool),
            heads=jnp.zeros(CLASSES, jnp.int32),
            warmup=jnp.int32(1),
            steps=jnp.int32(2),
            key=jax.random.key(0),
        )
    )
