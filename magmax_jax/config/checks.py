"""How a configuration refuses values that are out of range."""

from magmax_jax.errors import ConfigError


def require(condition: bool, message: str) -> None:
    """Raises a ConfigError with the message unless the condition holds."""
    if not condition:
        raise ConfigError(message)
