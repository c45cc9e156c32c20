"""JSON values as configurations; errors name the position of the wrong value."""

import dataclasses
import types
import typing
from typing import Any, Literal

from magmax_jax.config.checks import require
from magmax_jax.errors import UserError


def from_json(kind: Any, value: Any, where: str) -> Any:
    """A value read from JSON as a `kind`: a dataclass, tuple, union, literal or plain type.

    Args:
      where: the file and field, for messages.

    Raises:
      UserError: the value is not of that kind.
    """
    origin = typing.get_origin(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        require(isinstance(value, dict), f"{where}: expected an object, found {value!r}")
        hints = typing.get_type_hints(kind)
        unknown = sorted(set(value) - set(hints))
        require(not unknown, f"{where}: unknown fields {', '.join(unknown)}")
        return kind(
            **{name: from_json(hints[name], v, f"{where}: {name}") for name, v in value.items()}
        )
    if origin is tuple:
        require(isinstance(value, list), f"{where}: expected a list, found {value!r}")
        item, *rest = typing.get_args(kind)
        fixed = Ellipsis not in rest
        require(
            not fixed or len(value) == 1 + len(rest),
            f"{where}: expected {1 + len(rest)} values, found {value!r}",
        )
        return tuple(from_json(item, v, where) for v in value)
    if origin is Literal:
        choices = typing.get_args(kind)
        require(
            value in choices, f"{where}: {value!r} is not one of {', '.join(map(repr, choices))}"
        )
        return choices[choices.index(value)]  # 8 for 8.0
    if origin in (types.UnionType, typing.Union):
        kinds = typing.get_args(kind)
        if (value is None and type(None) in kinds) or (type(value) is int and int in kinds):
            return value
        return from_json(kinds[0], value, where)
    accepted = (int, float) if kind is float else kind
    ok = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
    require(ok, f"{where}: expected {kind.__name__}, found {value!r}")
    try:
        return kind(value)
    except OverflowError:
        raise UserError(f"{where}: {value} is too large: give a number of at most 1e308") from None
