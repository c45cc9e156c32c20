"""Changing fields of a configuration by their names, at any depth."""

import dataclasses
import difflib
import json
import os
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from magmax_jax.config.from_json import from_json
from magmax_jax.errors import UserError

Config = TypeVar("Config")


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """A copy of a dataclass with some fields changed, validated like those of a file.

    Args:
      changes: by name. Fields of a part are given as {"train": {"epochs": 2}}, or with a dot as
        {"train.epochs": 2}; other fields are kept.

    Raises:
      UserError: there is no such field, or a value does not fit its field.
    """
    kind: Any = type(config)
    value = dataclasses.asdict(typing.cast(Any, config))
    _merge(value, kind, changes, list(field_names(kind)))
    return from_json(kind, json.loads(json.dumps(value, default=_plain)), "config")


def _merge(
    value: dict[str, Any], kind: Any, changes: Mapping[str, Any], known: list[str], prefix: str = ""
) -> None:
    hints = typing.get_type_hints(kind)
    for name, new in changes.items():
        first, _, rest = name.partition(".")
        inner = hints.get(first)
        is_part = dataclasses.is_dataclass(inner)
        if inner is None or (rest and not is_part):
            raise _unknown(f"{prefix}{name}", known)
        new = {rest: new} if rest else new
        if is_part and isinstance(new, Mapping):
            _merge(value[first], inner, new, known, f"{prefix}{first}.")
        else:
            value[first] = new


def field_names(kind: Any, prefix: str = "") -> Iterator[str]:
    """Every field of a configuration, those of its parts with dots: "train.epochs"."""
    for name, inner in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(inner):
            yield from field_names(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _unknown(name: str, known: list[str]) -> UserError:
    last = name.rpartition(".")[2]
    close = [field for field in known if field.rpartition(".")[2] == last]
    close = close or difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {' or '.join(close)}?" if close else f"choose from {', '.join(known)}"
    return UserError(f"the configuration has no field {name}: {hint}")


def _plain(value: Any) -> Any:
    """Converts values that JSON lacks: parts of a configuration, paths, and NumPy numbers."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item"):
        return value.item()
    return repr(value)
