"""The figure of a comparison: differences to MagMax by recipe and benchmark, with error bars."""

from pathlib import Path
from typing import TYPE_CHECKING

from magmax_jax.io.atomic import new_file, refusing
from magmax_jax.report.axes import Axis, label_axis, legend
from magmax_jax.report.drawing import drawing
from magmax_jax.report.recipes import words
from magmax_jax.report.recipes.comparison import MAGMAX, Comparison, Difference, Recipe
from magmax_jax.report.style import COLOURS, INK, MARKERS, MUTED, title_of
from magmax_jax.runs.model_ref import FINETUNED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 12
"""Recipes in the picture: the best on validation images, and the baselines."""
CONTROLS = (MAGMAX, Recipe(MAGMAX.start, "scaled_last"), Recipe(MAGMAX.start, FINETUNED))


def shown(comparison: Comparison) -> dict[Recipe, Difference]:
    """The recipes in the picture, top to bottom, each at one scale."""
    found = {}
    for recipe in comparison.recipes:
        difference = comparison.difference(recipe, "shared")
        if difference is not None and recipe.is_merged | (recipe in CONTROLS):
            found[recipe] = difference

    def validated(recipe: Recipe) -> float:
        known = comparison.difference(recipe, "shared", "validation")
        return float("-inf") if known is None else known.mean.mean

    controls = [recipe for recipe in CONTROLS if recipe in found]
    others = sorted((r for r in found if r not in controls), key=validated, reverse=True)
    chosen = [*controls, *others[: MOST - len(controls)]]
    return {r: found[r] for r in sorted(chosen, key=lambda r: -found[r].mean.mean)}


def draw(comparison: Comparison, axes: "Axes") -> None:
    """One row per recipe: a point for each of several benchmarks, a diamond for their mean.

    Bars are one standard error in either direction.
    """
    found = shown(comparison)
    names = comparison.benchmarks
    apart = 0.6 / max(len(names), 1)
    for place, name in enumerate(names if len(names) > 1 else ()):
        values = [difference.by_benchmark[name] for difference in found.values()]
        axes.errorbar(
            [100 * value.mean for value in values],
            [line + (place - (len(names) - 1) / 2) * apart for line in range(len(found))],
            xerr=[100 * (value.error or 0.0) for value in values],
            linestyle="",
            marker=MARKERS[place % len(MARKERS)],
            markersize=4.5,
            color=COLOURS[place % len(COLOURS)],
            elinewidth=1,
            label=name,
        )
    means = [difference.mean for difference in found.values()]
    axes.errorbar(
        [100 * mean.mean for mean in means],
        range(len(found)),
        xerr=[100 * (mean.error or 0.0) for mean in means],
        linestyle="",
        marker="D",
        markersize=7.5,
        color=INK,
        elinewidth=1.8,
        label="mean of the benchmarks" if len(names) > 1 else names[0],
        zorder=3,
    )
    axes.axvline(0, color=MUTED, linewidth=1)
    axes.set_yticks(range(len(found)), [_label(comparison, recipe) for recipe in found])
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    for line in range(1, len(found)):
        axes.axhline(line - 0.5, color=MUTED, linewidth=0.4, alpha=0.5)
    axes.tick_params(axis="y", length=0)
    label_axis(axes, Axis("difference", "points above MagMax"), "x")
    legend(axes)


def height(recipes: int, benchmarks: int) -> float:
    """Height in inches for this many rows of points."""
    return 1.6 + 0.16 * recipes * (1 + benchmarks)


def _label(comparison: Comparison, recipe: Recipe) -> str:
    if not recipe.is_merged:
        return f"{title_of(recipe.rule)}, start {recipe.start}"
    scale = words.scale(comparison.shared_scale(recipe))
    mark = " (recommended)" if recipe == comparison.recommended() else ""
    return f"{recipe.rule} @ {scale}, start {recipe.start}{mark}"


def write(comparison: Comparison, path: Path) -> None:
    """Draws the picture as a PNG.

    Raises:
      UserError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with drawing():
        inches = height(len(shown(comparison)), len(comparison.benchmarks))
        figure = Figure(figsize=(9, inches))
        figure.set_layout_engine("constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        draw(comparison, axes)
        with refusing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with new_file(path) as partial:
                figure.savefig(partial, dpi=150, format="png")
