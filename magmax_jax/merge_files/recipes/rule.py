"""The merge rule of a recipe: one for all tensors, or one for each where parameters vary."""

import functools
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from magmax_jax.errors import UserError, some
from magmax_jax.merge_files.recipes.read import Recipe
from magmax_jax.merge_files.recipes.settings import (
    Filtered,
    Key,
    Scalar,
    Setting,
    at,
    has_gradient,
    varies,
)
from magmax_jax.merging import MergeRule, rules
from magmax_jax.merging.rules.by_leaf import by_leaf
from magmax_jax.merging.rules.layers import layer_of

LISTED = 3
"""Most tensors whose parameters are shown or named."""


class RecipeRule:
    """What a recipe computes on a model with these tensors.

    Args:
      names: of theta_0's tensors; their numbers say how deep each layer is.
      seed: of methods that draw at random.
    """

    def __init__(self, recipe: Recipe, names: Collection[str], seed: int):
        self.recipe = recipe
        self._seed = seed
        self._layers: dict[str, int] = {}
        for layer in filter(None, map(layer_of, names)):
            self._layers[layer.tower] = max(self._layers.get(layer.tower, 0), layer.number + 1)

    @property
    def settings(self) -> Iterator[tuple[str, Setting | None]]:
        """Every setting that counts, with its parameter's name."""
        yield from self.recipe.settings.items()
        for member in self.recipe.members:
            yield from member.settings.items()

    @property
    def varies(self) -> bool:
        """Whether tensors may have different parameters."""
        return any(varies(setting) for _, setting in self.settings)

    def build(self) -> MergeRule:
        """Raises a UserError if the parameters are not possible."""
        if not self.varies:
            return self._named(*self.rule_of(""))
        return by_leaf(lambda name: self._named(*self.rule_of(name)))

    def rule_of(self, name: str) -> tuple[str, dict[str, Any]]:
        """Name and options of the rule for a tensor.

        Raises:
          UserError: it lacks a required parameter.
        """
        return self.recipe.method.rule(self.values(name), self.recipe.whole)

    def values(self, name: str) -> Mapping[str, Any]:
        """The parameters of a tensor; a tuple, one for each model, where models have their own."""
        members = self.recipe.members
        return {
            key.name: tuple(self._value(key, name, i) for i in range(len(members)))
            if key.per_model
            else self._value(key, name, None)
            for key in self.recipe.method.keys
        }

    def problems(self, merged: Collection[str]) -> Iterator[str]:
        """Why the recipe does not fit these tensors, each in one sentence."""
        failed: dict[str, list[str]] = {}
        for name in merged if self.varies else list(merged)[:1]:
            try:
                self._named(*self.rule_of(name))
            except UserError as error:
                failed.setdefault(str(error), []).append(name)
        for why, names in failed.items():
            yield f"{self.recipe.path}: {why}" + (
                f" ({some(names, LISTED)})" if self.varies else ""
            )
        for key, setting in self.settings:
            for each in setting if isinstance(setting, tuple) else ():
                if each.part is not None and not any(each.part in name for name in merged):
                    yield (
                        f"{self.recipe.path}: the filter {each.part!r} of {key} matches no tensor: "
                        "it must be a part of a name, with the same capitals; patterns are not read"
                    )

    def notes(self, merged: Collection[str]) -> Iterator[str]:
        """What mergekit's conventions do here that may not be expected."""
        yield from self.recipe.notes
        outside = [name for name in merged if layer_of(name) is None]
        if outside and any(has_gradient(setting) for _, setting in self.settings):
            yield (
                "a gradient's first value serves all tensors outside layers, as in mergekit, also "
                f"those behind the last layer: {some(outside, LISTED)}"
            )

    def describe(self) -> Iterator[str]:
        """The parameters in words, one line each."""
        members = self.recipe.members
        for key in self.recipe.method.keys:
            if key.unused:
                continue
            if not key.per_model:
                yield f"{key.name}: {_shown(self._first(key, None))}"
                continue
            shown = [_shown(self._first(key, i)) for i in range(len(members))]
            alike = len(set(shown)) == 1
            yield f"{key.name}: {shown[0] if alike else '; '.join(shown)}"

    def options(self) -> dict[str, str]:
        """The parameters for a model card."""
        return dict(line.split(": ", 1) for line in self.describe())

    def _named(self, rule: str, options: dict[str, Any]) -> MergeRule:
        return _cached(rule, self._seed, tuple(options.items()))

    def _candidates(self, key: Key, member: int | None) -> list[Setting | None]:
        own = [] if member is None else [self.recipe.members[member].settings.get(key.name)]
        return [*own, self.recipe.settings.get(key.name)]

    def _first(self, key: Key, member: int | None) -> Setting | None:
        found = (s for s in self._candidates(key, member) if s is not None)
        return next(found, key.default)

    def _value(self, key: Key, name: str, member: int | None) -> Scalar:
        for setting in self._candidates(key, member):
            value = at(setting, name, self._depth(name))
            if value is not None:
                return value
        if key.default is None:
            of = "" if member is None else f" for {self.recipe.members[member].model}"
            raise UserError(f"{self.recipe.method_name} needs {key.name}{of}, which has no value")
        return key.default

    def _depth(self, name: str) -> float:
        """0 in the first layer, 1 in the last or only one; 0 outside layers."""
        layer = layer_of(name)
        if layer is None:
            return 0.0
        last = self._layers.get(layer.tower, 1) - 1
        return layer.number / last if last else 1.0


@functools.lru_cache(maxsize=4096)
def _cached(rule: str, seed: int, options: tuple[tuple[str, Any], ...]) -> MergeRule:
    return rules.named(rule, seed, **dict(options))


def _shown(setting: Setting | None) -> str:
    if setting is None:
        return "not set"
    if isinstance(setting, bool):
        return str(setting).lower()
    if isinstance(setting, tuple):
        return ", ".join(map(_shown_filter, setting))
    if isinstance(setting, int | float):
        return f"{setting:g}"
    return f"[{', '.join(map(_shown, setting.values))}]"


def _shown_filter(filtered: Filtered) -> str:
    where = "elsewhere" if filtered.part is None else f"in *{filtered.part}*"
    return f"{_shown(filtered.value)} {where}"
