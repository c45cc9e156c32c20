"""How a configuration refuses values that are out of range."""

from magmax_jax.errors import UserError


def require(condition: bool, message: str) -> None:
    """Raises a UserError with the message unless the condition holds."""
    if not condition:
        raise UserError(message)
