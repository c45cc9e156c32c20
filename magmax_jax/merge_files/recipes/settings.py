"""Values of a recipe's parameters: numbers, gradients over layers, and filters by name."""

import math
from dataclasses import dataclass
from typing import Any

from magmax_jax.errors import UserError

Scalar = float | bool


@dataclass(frozen=True)
class Key:
    """A parameter of a method.

    Attributes:
      kind: float or bool.
      per_model: whether every model may have its own value; else there is one for the recipe.
      default: None if the recipe must give a value.
      unused: accepted by mergekit for this method, which does nothing with it.
    """

    name: str
    kind: type
    per_model: bool = False
    default: Scalar | None = None
    unused: bool = False


@dataclass(frozen=True)
class Gradient:
    """Values at evenly spaced depths from the first layer to the last, straight lines between."""

    values: tuple[Scalar, ...]

    def at(self, depth: float) -> Scalar:
        """The value at a depth from 0 to 1; of booleans, the one before it."""
        place = depth * (len(self.values) - 1)
        first = int(place)
        if any(isinstance(value, bool) for value in self.values):
            return self.values[first]
        second = min(first + 1, len(self.values) - 1)
        share = place - first
        return (1 - share) * self.values[first] + share * self.values[second]


@dataclass(frozen=True)
class Filtered:
    """A value for the tensors whose name contains `part`; None for all."""

    part: str | None
    value: Scalar | Gradient


Setting = Scalar | Gradient | tuple[Filtered, ...]


def parse(value: Any, key: Key, where: str) -> Setting | None:
    """A parameter's setting; None for an empty list, which mergekit takes as none.

    Args:
      value: as YAML gives it.
      where: the recipe and the place in it, for messages.

    Raises:
      UserError: it is not a number (or no boolean), and no list of these or of filters.
    """
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        return _scalar(value, key, where)
    if not any(isinstance(each, dict) for each in value):
        return Gradient(tuple(_scalar(each, key, where) for each in value)) if value else None
    return tuple(_filtered(each, key, where) for each in value)


def at(setting: Setting | None, name: str, depth: float) -> Scalar | None:
    """The value for a tensor; None if no filter matches its name.

    Args:
      depth: of its layer, 0 for the first and 1 for the last; 0 outside layers.
    """
    if isinstance(setting, tuple):
        found = (each.value for each in setting if each.part is None or each.part in name)
        setting = next(found, None)
    return setting.at(depth) if isinstance(setting, Gradient) else setting


def varies(setting: Setting | None) -> bool:
    """Whether tensors may have different values."""
    return isinstance(setting, Gradient | tuple)


def has_gradient(setting: Setting | None) -> bool:
    values = [each.value for each in setting] if isinstance(setting, tuple) else [setting]
    return any(isinstance(value, Gradient) and len(value.values) > 1 for value in values)


def _filtered(value: Any, key: Key, where: str) -> Filtered:
    if not isinstance(value, dict):
        raise UserError(f"{where}: {key.name} mixes filters with values: write `- value: {value}`")
    if unknown := [str(word) for word in value if word not in ("filter", "value")]:
        raise UserError(
            f"{where}: {key.name} has {unknown[0]!r}: a filter has `filter` and `value`"
        )
    part = value.get("filter")
    if part is not None and not isinstance(part, str):
        raise UserError(f"{where}: {key.name} has the filter {part!r}: give a part of a name")
    inner = parse(value.get("value"), key, where)
    if inner is None or isinstance(inner, tuple):
        raise UserError(f"{where}: {key.name} has a filter without a value: give a number or list")
    return Filtered(None if part == "*" else part, inner)


def _scalar(value: Any, key: Key, where: str) -> Scalar:
    if key.kind is bool:
        if not isinstance(value, bool):
            raise UserError(f"{where}: {key.name} is {value!r}: give true or false")
        return value
    try:  # YAML 1.1 reads 1e-3 as text
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{where}: {key.name} is {value!r}: give a finite number")
    return number
