"""What a block of a transformer keeps for its gradient, by name."""

KEPT = "kept"
"""The name of what a block keeps besides its input: q, k and v together, the tokens between its
halves, and what goes into the MLP's activation; and of what attention returns, where its own
gradient takes that."""
