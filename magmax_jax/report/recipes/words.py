"""Numbers and names as formatted on the page of a comparison."""

from magmax_jax.errors import counted
from magmax_jax.report.items import percent
from magmax_jax.report.recipes.comparison import LIMIT, Comparison, Difference, Recipe
from magmax_jax.report.recipes.estimates import Estimate
from magmax_jax.report.style import title_of

POINTS = f"{100 * LIMIT:g} points"
"""What counts as a loss on a benchmark."""


def accuracy(found: Estimate) -> str:
    """In per cent, with its standard error: 56.7 ± 0.4."""
    return percent(found.mean) + ("" if found.error is None else f" ± {percent(found.error)}")


def points(found: Estimate) -> str:
    """A difference with its sign: +2.2 ± 0.7."""
    sign = "+" if round(found.mean, 3) > 0 else ""
    return sign + accuracy(found)


def compared(found: Estimate, difference: Difference | None, benchmark: str) -> str:
    """An accuracy on a benchmark, with the difference to MagMax in brackets if there is one."""
    if difference is None:
        return accuracy(found)
    return f"{accuracy(found)} ({points(difference.by_benchmark[benchmark])})"


def scale(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def rule(recipe: Recipe) -> str:
    """The rule as flags name it, or the unmerged model."""
    return f"`{recipe.rule}`" if recipe.is_merged else f"none: {title_of(recipe.rule)}"


def named(recipe: Recipe, at: float | None) -> str:
    """A recipe in a sentence: start `ema`, rule `ema` at scale 0.9."""
    return f"start `{recipe.start}`, rule `{recipe.rule}` at scale {scale(at)}"


def opening(recipe: Recipe, at: float | None) -> str:
    """`named` at the start of a sentence."""
    name = named(recipe, at)
    return name[0].upper() + name[1:]


def verdict(found: Difference) -> str:
    """A difference to MagMax on test images, in a sentence or two."""
    direction = "above" if found.mean.mean >= 0 else "below"
    size = accuracy(found.mean._replace(mean=abs(found.mean.mean)))
    text = f"it is {size} points {direction} MagMax at its best scale, and above it in "
    text += f"{found.wins} of {counted(found.pairs, 'pair')} of trainings"
    if len(found.by_benchmark) > 1:
        ordered = sorted(found.by_benchmark.items(), key=lambda each: each[1].mean)
        (low, lowest), (high, highest) = ordered[0], ordered[-1]
        text += f"; from {points(lowest)} on {low} to {points(highest)} on {high}"
    lost = "; ".join(found.worse) or "no benchmark"
    text += f". It is more than {POINTS} below MagMax on {lost}"
    error = found.mean.error
    if error is not None and abs(found.mean.mean) < 2 * error:
        text += ". The mean difference is less than two standard errors: it may be chance"
    return f"{text}."


def order(comparison: Comparison, found: dict[Recipe, Difference | None]) -> list[Recipe]:
    """Recipes by descending mean difference to MagMax; those without one last."""

    def place(recipe: Recipe) -> tuple[bool, float]:
        difference = found[recipe]
        return (difference is None, 0.0 if difference is None else -difference.mean.mean)

    return sorted(comparison.recipes, key=place)
