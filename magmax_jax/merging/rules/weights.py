"""Checks of the weights that a user gives to the models of a merge."""

from collections.abc import Sequence

from magmax_jax.errors import UserError


def check_weights(rule: str, weights: Sequence[float] | None, normalize: bool) -> None:
    """Raises a UserError unless the weights, of any sign, are finite and can be normalised."""
    if weights is None:
        return
    if not (weights and all(abs(weight) < float("inf") for weight in weights)):
        raise UserError(f"{rule}: weights are {weights}: give finite numbers")
    if normalize and sum(weights) == 0:
        raise UserError(f"{rule}: weights are {weights}, which sum to 0")
