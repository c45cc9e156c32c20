"""Continual learning by model merging: MagMax for CLIP, in JAX and Flax."""
