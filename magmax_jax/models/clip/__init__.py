"""CLIP: both towers, their checkpoints and their entry among the model families."""
