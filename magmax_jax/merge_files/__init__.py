"""Checkpoints as files of named tensors, merged out of core; any architecture."""
