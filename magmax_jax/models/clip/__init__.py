"""CLIP: both towers, their checkpoints and their registration as a model family."""
