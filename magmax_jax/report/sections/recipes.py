"""Starts and rules compared with MagMax over the runs of one scenario."""

from functools import partial

from magmax_jax.registry import REPORT_SECTIONS
from magmax_jax.report.groups import Group
from magmax_jax.report.items import WIDTH, Column, Figure, Item, Record, Table, percent
from magmax_jax.report.recipes import figure, words
from magmax_jax.report.recipes.comparison import Comparison, Recipe
from magmax_jax.report.recipes.estimates import estimate, mean_of
from magmax_jax.report.recipes.rule_facts import facts_of
from magmax_jax.report.recipes.trainings import trainings
from magmax_jax.report.section import Section
from magmax_jax.report.style import title_of


def items(group: Group) -> list[Item]:
    """A table and a figure of every start with every rule; empty unless several comparable runs
    were swept on validation images."""
    comparison = Comparison(trainings(group.runs)[0])
    if len(comparison.trained) < 2:
        return []
    found = {r: comparison.difference(r, "shared") for r in comparison.recipes}
    records = [_record(comparison, recipe) for recipe in words.order(comparison, found)]
    records = [record for record in records if record["accuracy"] is not None]
    if not records:
        return []
    columns = [
        Column("start", "Start"),
        Column("rule", "Rule"),
        Column("memory", "Task vectors kept"),
        Column("scale", "Scale λ", words.scale),
        Column("accuracy", "Accuracy, %", percent),
        Column("error", "± standard error", percent),
        Column("difference", "Difference to MagMax, points", percent),
        Column("difference_error", "± standard error of it", percent),
        Column("wins", "Above MagMax", "{:.0f}".format),
        Column("pairs", "of pairs", "{:.0f}".format),
    ]
    caption = (
        "Each recipe at the one scale that is best on the validation images of all its runs, on "
        "test images; differences to MagMax at the scale chosen for each run are paired over seeds."
    )
    table = Table("recipes", "Starts and rules", caption, records, columns)
    shown = figure.shown(comparison)
    if not shown:
        return [table]
    drawn = [record for record in records if record["difference"] is not None]
    height = figure.height(len(shown), len(comparison.benchmarks))
    caption = (
        "Difference to MagMax at the scale chosen for each run, on test images; bars: one standard "
        "error."
    )
    draw = partial(figure.draw, comparison)
    title = "Differences to MagMax"
    size = WIDTH, height
    return [table, Figure("recipes-to-magmax", title, caption, drawn, draw, "dot plot", size)]


def _record(comparison: Comparison, recipe: Recipe) -> Record:
    scores = comparison.scores(recipe, "shared")
    by_benchmark: dict[str, list[float]] = {}
    for (benchmark, _), score in scores.items():
        by_benchmark.setdefault(benchmark, []).append(score)
    whole = len(by_benchmark) == len(comparison.benchmarks)
    mean = mean_of([estimate(each) for each in by_benchmark.values()]) if whole else None
    difference = comparison.difference(recipe, "shared")
    return {
        "start": recipe.start,
        "rule": title_of(recipe.rule),
        "memory": facts_of(recipe.rule).memory if recipe.is_merged else "none",
        "scale": comparison.shared_scale(recipe) if recipe.is_merged else None,
        "accuracy": mean and mean.mean,
        "error": mean and mean.error,
        "difference": difference and difference.mean.mean,
        "difference_error": difference and difference.mean.error,
        "wins": difference and difference.wins,
        "pairs": difference and difference.pairs,
    }


REPORT_SECTIONS.register("recipes", Section("Starts and rules", 95, items))
