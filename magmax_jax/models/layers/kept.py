"""Names the values that a transformer block keeps for its gradient."""

KEPT = "kept"
"""The name of what a block keeps besides its input: q, k and v together, the tokens between its
halves, and the input of the MLP's activation; also attention's output, if its own gradient needs
that."""
