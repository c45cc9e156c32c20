"""Recipes compared with MagMax: scales chosen on validation images, paired on test images."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from magmax_jax.evaluation.scales import best_scale
from magmax_jax.report.recipes.estimates import Estimate, estimate, mean_of
from magmax_jax.report.recipes.rule_facts import facts_of
from magmax_jax.report.recipes.trainings import Training
from magmax_jax.runs.model_ref import FINETUNED, ZERO_SHOT

Way = Literal["shared", "each", "published"]
"""How a recipe's scale was set. shared: one scale for all trainings, the best on the mean of the
benchmarks' validation accuracies; each: for each training the best on its own validation images;
published: the rule's default."""
Scores = Mapping[tuple[str, int], float]
"""Accuracy in [0, 1] by benchmark and seed."""


class Recipe(NamedTuple):
    """One of the alternatives that are compared.

    Attributes:
      start: where each task starts.
      rule: how tasks are merged; `finetuned` or `zero_shot` if they are not.
    """

    start: str
    rule: str

    @property
    def is_merged(self) -> bool:
        return self.rule not in (FINETUNED, ZERO_SHOT)


MAGMAX = Recipe("last", "max_magnitude")
"""The baseline of every comparison, at the scale chosen for each training."""
LIMIT = 0.005
"""A recipe counts as worse on a benchmark if it is more than this share below MagMax."""


class Difference(NamedTuple):
    """A recipe minus MagMax, paired over seeds.

    Attributes:
      by_benchmark: difference on each.
      mean: over the benchmarks, equally weighted.
      wins: pairs in which the recipe is above MagMax.
      pairs: benchmarks times seeds.
    """

    by_benchmark: Mapping[str, Estimate]
    mean: Estimate
    wins: int
    pairs: int

    @property
    def worse(self) -> list[str]:
        """The benchmarks on which the recipe is below MagMax by more than `LIMIT`."""
        return [name for name, found in self.by_benchmark.items() if found.mean < -LIMIT]


@dataclass(frozen=True)
class Comparison:
    """All recipes of some trainings."""

    trained: Sequence[Training]

    @cached_property
    def benchmarks(self) -> list[str]:
        return list(dict.fromkeys(training.benchmark for training in self.trained))

    @cached_property
    def recipes(self) -> list[Recipe]:
        """Every start with every rule swept on validation images, and the unmerged models."""
        found: dict[Recipe, None] = {}
        for training in self.trained:
            for rule in (*training.rules("validation"), FINETUNED):
                found[Recipe(training.start, rule)] = None
        return [*found, Recipe(MAGMAX.start, ZERO_SHOT)]

    def scale(
        self, recipe: Recipe, way: Way, training: Training, benchmarks: Collection[str] = ()
    ) -> float | None:
        """The scale of a recipe in a training; None if nothing is merged or no scale is known.

        Args:
          benchmarks: those for which a shared scale is chosen; all by default.
        """
        if not recipe.is_merged:
            return None
        if way == "published":
            return facts_of(recipe.rule).scale
        if way == "shared":
            return self.shared_scale(recipe, benchmarks)
        return _best(training.of("validation", recipe.rule))

    def shared_scale(self, recipe: Recipe, benchmarks: Collection[str] = ()) -> float | None:
        """The scale with the best mean validation accuracy over the benchmarks.

        Candidates are the scales at which all trainings of the recipe were evaluated.
        """
        by_benchmark: dict[str, list[Mapping[float | None, float]]] = {}
        for training in self._of(recipe, benchmarks):
            if found := training.of("validation", recipe.rule):
                by_benchmark.setdefault(training.benchmark, []).append(found)
        everything = [found for each in by_benchmark.values() for found in each]
        if not everything:
            return None
        common = set.intersection(*(set(found) for found in everything))
        means = {
            scale: mean_of(
                [estimate(found[scale] for found in each) for each in by_benchmark.values()]
            ).mean
            for scale in common
        }
        return _best(means)

    def scores(
        self,
        recipe: Recipe,
        way: Way,
        split: str = "test",
        benchmarks: Collection[str] = (),
    ) -> dict[tuple[str, int], float]:
        """Accuracies, by benchmark and seed, of the trainings evaluated at the scale."""
        trained = self._of(recipe, benchmarks)
        fixed = self.scale(recipe, way, trained[0], benchmarks) if trained else None
        found = {}
        for training in trained:
            scale = self.scale(recipe, way, training) if way == "each" else fixed
            known = training.of(split, recipe.rule)
            if scale in known:
                found[training.benchmark, training.seed] = known[scale]
        return found

    def difference(
        self,
        recipe: Recipe,
        way: Way,
        split: str = "test",
        benchmarks: Collection[str] = (),
        scale_for: Collection[str] | None = None,
    ) -> Difference | None:
        """A recipe minus MagMax at its best scale; None without a pair on each benchmark.

        Args:
          benchmarks: those to compare on; all by default.
          scale_for: those for which a shared scale is chosen; by default the same.
        """
        wanted = benchmarks or self.benchmarks
        ours = self.scores(recipe, way, split, benchmarks if scale_for is None else scale_for)
        magmax = self.scores(MAGMAX, "each", split, benchmarks)
        pairs: dict[str, list[float]] = {name: [] for name in wanted}
        for key in sorted(ours.keys() & magmax.keys()):
            pairs[key[0]].append(ours[key] - magmax[key])
        if not all(pairs.values()):
            return None
        by_benchmark = {name: estimate(found) for name, found in pairs.items()}
        every = [each for found in pairs.values() for each in found]
        wins = sum(each > 0 for each in every)
        return Difference(by_benchmark, mean_of(list(by_benchmark.values())), wins, len(every))

    def recommended(
        self, benchmarks: Collection[str] = (), streaming: bool = True, every_seed: bool = True
    ) -> Recipe | None:
        """The recipe to use at one scale, chosen on validation images alone.

        It has the best mean over the benchmarks among the recipes that are nowhere more than
        `LIMIT` below MagMax; without such a recipe it is the best of all.

        Args:
          streaming: True for rules with a state of constant size, False for rules that keep every
            task vector.
          every_seed: whether it must have as many pairs with MagMax as any recipe; the mean of
            fewer seeds comes from other trainings, and has no error if there is only one seed.
        """
        found = {}
        for recipe in self.recipes:
            if recipe.is_merged and facts_of(recipe.rule).streaming is streaming:
                difference = self.difference(recipe, "shared", "validation", benchmarks)
                if difference is not None:
                    found[recipe] = difference
        if every_seed:
            most = max((each.pairs for each in found.values()), default=0)
            found = {recipe: each for recipe, each in found.items() if each.pairs == most}
        steady = {recipe: each for recipe, each in found.items() if not each.worse}
        return max(steady or found, key=lambda recipe: found[recipe].mean.mean, default=None)

    def unvalidated(self) -> dict[Training, dict[str, list[float]]]:
        """Published scales not yet evaluated on validation images, by training and rule."""
        return self._lacking("validation", self._scales(("published",)))

    def untested(
        self, groups: Sequence[Collection[str]] = ()
    ) -> dict[Training, dict[str, list[float]]]:
        """Scales, set in any way, not yet evaluated on test images, by training and rule.

        Args:
          groups: groups of benchmarks, each with its own recommended recipe.
        """
        wanted = self._scales(("shared", "each", "published"))
        for benchmarks in groups:
            recipe = self.recommended(benchmarks)
            if recipe is None:
                continue
            for training in self._of(recipe, benchmarks):
                scales = wanted.get((training, recipe.rule))
                if scales is not None:
                    scales.add(self.shared_scale(recipe, benchmarks))
        return self._lacking("test", wanted)

    def _scales(self, ways: Sequence[Way]) -> dict[tuple[Training, str], set[float | None]]:
        """The scales of every rule in every training."""
        fixed = {
            (recipe, way): self.scale(recipe, way, self.trained[0])
            for recipe in self.recipes
            for way in ways
            if way != "each"
        }
        return {
            (training, rule): {
                self.scale(recipe, way, training) if way == "each" else fixed[recipe, way]
                for way in ways
            }
            for training in self.trained
            for rule in training.rules("validation")
            for recipe in [Recipe(training.start, rule)]
        }

    def _lacking(
        self, split: str, wanted: Mapping[tuple[Training, str], set[float | None]]
    ) -> dict[Training, dict[str, list[float]]]:
        lacking: dict[Training, dict[str, list[float]]] = {}
        for (training, rule), scales in wanted.items():
            known = training.of(split, rule)
            if found := sorted(s for s in scales if s is not None and s not in known):
                lacking.setdefault(training, {})[rule] = found
        return lacking

    def _of(self, recipe: Recipe, benchmarks: Collection[str]) -> list[Training]:
        wanted = benchmarks or self.benchmarks
        return [t for t in self.trained if t.start == recipe.start and t.benchmark in wanted]


def _best(accuracies: Mapping[float | None, float]) -> float | None:
    """The best scale (`evaluation.scales.best_scale`); None if there is none."""
    known = {scale: each for scale, each in accuracies.items() if scale is not None}
    return best_scale(known) if known else None
