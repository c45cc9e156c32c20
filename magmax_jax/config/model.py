"""The pretrained model."""

from dataclasses import dataclass
from typing import Literal

from magmax_jax.config.checks import require


@dataclass(frozen=True)
class ModelConfig:
    """theta_0: where it comes from and how it computes."""

    source: str = "openai/clip-vit-base-patch16"
    """Hugging Face hub id, or a directory with a checkpoint of CLIP or SigLIP."""
    image_size: int | None = None
    """Input size in pixels; not set: the checkpoint's. Another size interpolates the position
    embedding."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Computation dtype of the image tower; master weights are float32 either way."""

    text_source: str | None = None
    """The CLIP that completes a source that is only an image tower (transformers' CLIPVisionModel,
    with or without projection): hub id or directory of the model it was fine-tuned from. Its text
    tower makes the head; its preprocessing is used if the source has none."""

    def __post_init__(self) -> None:
        size = self.image_size
        require(size is None or size > 0, f"model.image_size is {size}: it must be positive")
