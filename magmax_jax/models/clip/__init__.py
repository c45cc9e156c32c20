"""CLIP: both towers, their checkpoints, the zero-shot head."""
