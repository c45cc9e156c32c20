"""Checks whether a configuration fits its regularizer, before anything is loaded."""

from dataclasses import fields

from magmax_jax.config import LAST, PRETRAINED, MethodConfig
from magmax_jax.errors import ConfigError
from magmax_jax.registry import REGULARIZERS


def check_method(config: MethodConfig) -> None:
    """Raises a ConfigError if the method contradicts its regularizer's spec."""
    name, spec = config.regularizer, REGULARIZERS[config.regularizer]
    if spec.is_plain and config.strength is not None:
        raise ConfigError(
            f"method.strength is {config.strength}, but no method.regularizer is chosen: name one"
        )
    if not spec.is_plain and config.strength is None and spec.strength is None:
        raise ConfigError(
            f"method.regularizer {name} needs a method.strength: it has no published one"
        )
    for field in fields(config):
        readers = [other for other, facts in REGULARIZERS.items() if field.name in facts.options]
        value = getattr(config, field.name)
        if readers and name not in readers and value != field.default:
            raise ConfigError(
                f"method.{field.name} {value} applies to method.regularizer {' or '.join(readers)} "
                f"only, not to {name}"
            )
    if spec.needs_previous_task and config.starts_from == PRETRAINED:
        raise ConfigError(
            f"method.regularizer {name} keeps a task close to the previous one, but each task "
            "starts from theta_0 with method.sequential=False: leave one of them out"
        )
    if config.joint and (spec.needs_previous_task or config.starts_from != LAST):
        holding = [other for other, facts in REGULARIZERS.items() if facts.needs_previous_task]
        raise ConfigError(
            "method.joint learns all tasks at once: neither method.sequential=False, method.start "
            f"nor method.regularizer {' or '.join(holding)} applies to it: leave them out"
        )
