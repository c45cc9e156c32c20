"""Fields that take names from a registry; `--help` lists the names."""

from typing import Any, Literal

import tyro

from magmax_jax.registry import Registry


def one_of(registry: Registry) -> Any:
    """Annotation of a field that takes a name of the registry; --help and errors list the names.

    The list is made when the command line is parsed, so it includes names that users registered.
    """

    def names() -> Any:
        return Literal[tuple(registry)]

    return tyro.conf.arg(
        constructor_factory=names,
        # tyro shows the default of a type made on demand as the repr of a list: ['none'].
        help_behavior_hint=lambda default: f"(default: {default[2:-2]})",
    )


def listing(registry: Registry, unset: str = "None") -> Any:
    """Annotation of a field that also takes other values; --help lists the registry's names.

    As for `one_of`, the list includes names that users registered.

    Args:
      unset: how --help shows the default None.
    """

    def hint(default: str) -> str:
        shown = unset if default == "None" else default
        return f"(default: {shown}; names: {', '.join(registry)})"

    return tyro.conf.arg(help_behavior_hint=hint)
