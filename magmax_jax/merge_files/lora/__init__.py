"""LoRA adapters as sources of a merge, and as its output."""
