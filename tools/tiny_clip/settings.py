"""Settings of the bundled small CLIP's pretraining."""

from dataclasses import dataclass
from pathlib import Path

from magmax_jax.api.presets import TINY_CLIP
from magmax_jax.errors import UserError


@dataclass(frozen=True)
class Pretrain:
    """Pretrains a small CLIP on rendered digits and letters and their captions."""

    output: Path = Path(TINY_CLIP)
    """Directory to write, in Hugging Face's format; it appears whole or not at all."""
    overwrite: bool = False
    """Replace a model that is already in the directory."""
    steps: int = 2000
    batch_size: int = 128
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW; 5 % warm-up, then cosine to zero."""
    weight_decay: float = 0.05
    image_size: int = 32
    patch_size: int = 8
    width: int = 128
    """Width of both towers and of the space that they share."""
    layers: int = 4
    """Layers of the image tower; the text tower has half as many."""
    context: int = 32
    """Longest text, in tokens."""
    seed: int = 0

    def __post_init__(self):
        if min(self.steps, self.batch_size, self.patch_size, self.width, self.layers) < 1:
            raise UserError("steps, batch_size, patch_size, width and layers must be positive")
