"""The tables of a comparison's page, as lines of Markdown."""

from collections.abc import Iterable, Sequence

from magmax_jax.report.recipes import words
from magmax_jax.report.recipes.comparison import MAGMAX, Comparison, Difference, Recipe, Way
from magmax_jax.report.recipes.estimates import estimate, mean_of
from magmax_jax.report.recipes.rule_facts import facts_of
from magmax_jax.report.recipes.situations import situations
from magmax_jax.report.recipes.trainings import Training

Line = Sequence[str]


def table(head: Line, lines: Iterable[Line], names: int = 1) -> str:
    """A Markdown table.

    Args:
      names: number of leading columns that are text.
    """
    rule = ["---"] * names + ["---:"] * (len(head) - names)
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *lines))


def recipes(comparison: Comparison, way: Way, split: str = "test") -> str:
    """Every recipe: accuracies, with differences to MagMax at its best scale in brackets."""
    differences = {r: comparison.difference(r, way, split) for r in comparison.recipes}
    head = ["start", "rule", "memory", *(["scale"] if way != "each" else []), "mean of benchmarks"]
    head += ["to MagMax", "above it", *comparison.benchmarks]
    lines = []
    for recipe in words.order(comparison, differences):
        line = _recipe(comparison, recipe, way, split)
        if line is not None:
            lines.append(line)
    return table(head, lines, 3)


def _recipe(comparison: Comparison, recipe: Recipe, way: Way, split: str) -> list[str] | None:
    """A row of the table; None for a recipe not evaluated this way."""
    scores = comparison.scores(recipe, way, split)
    if not scores:
        return None
    by_benchmark = {
        name: estimate(found)
        for name in comparison.benchmarks
        if (found := [score for (of, _), score in scores.items() if of == name])
    }
    whole = len(by_benchmark) == len(comparison.benchmarks)
    difference = comparison.difference(recipe, way, split)
    line = [recipe.start, words.rule(recipe)]
    line.append(facts_of(recipe.rule).memory if recipe.is_merged else "none")
    if way != "each":
        line.append(words.scale(comparison.scale(recipe, way, comparison.trained[0])))
    line.append(words.accuracy(mean_of(list(by_benchmark.values()))) if whole else "")
    line += _to_magmax(difference)
    for name in comparison.benchmarks:
        cell = words.compared(by_benchmark[name], difference, name) if name in by_benchmark else ""
        line.append(f"{cell} ↓" if difference and name in difference.worse else cell)
    return line


def _to_magmax(difference: Difference | None) -> list[str]:
    """Two cells: the mean difference, and the pairs in which the recipe is above MagMax."""
    if difference is None:
        return ["", ""]
    return [words.points(difference.mean), f"{difference.wins} of {difference.pairs}"]


def by_scale(comparison: Comparison, shown: Sequence[Recipe]) -> str:
    """Validation accuracies of recipes at every scale that all their trainings tried."""
    head = ["start", "rule", "scale", "mean of benchmarks", *comparison.benchmarks]
    lines = []
    for recipe in shown:
        trained = [t for t in comparison.trained if t.start == recipe.start]
        tried = [t.of("validation", recipe.rule) for t in trained]
        for scale in sorted(set.intersection(*map(set, tried)), key=lambda each: each or 0.0):
            by_benchmark = [
                estimate(
                    found[scale]
                    for t, found in zip(trained, tried, strict=True)
                    if t.benchmark == name
                )
                for name in comparison.benchmarks
            ]
            accuracies = [words.accuracy(each) for each in (mean_of(by_benchmark), *by_benchmark)]
            lines.append([recipe.start, words.rule(recipe), words.scale(scale), *accuracies])
    return table(head, lines, 2)


def by_situation(comparison: Comparison) -> str:
    """For each group of benchmarks the recipe chosen on its validation images."""
    overall = comparison.recommended()
    head = ["benchmarks", "start", "rule", "scale", "to MagMax", "above it", "recommended for all"]
    lines = []
    for title, benchmarks in situations(comparison):
        best = comparison.recommended(benchmarks)
        if best is None:
            continue
        found = comparison.difference(best, "shared", "test", benchmarks)
        general = overall and comparison.difference(
            overall, "shared", benchmarks=benchmarks, scale_for=()
        )
        at = words.scale(comparison.shared_scale(best, benchmarks))
        line = [title, best.start, words.rule(best), at, *_to_magmax(found)]
        lines.append([*line, words.points(general.mean) if general else ""])
    return table(head, lines, 3)


def by_start(comparison: Comparison, rules: Sequence[str]) -> str:
    """Rules on benchmarks that were trained with several starts; "" if there is none.

    Each at the scale chosen for each training, with differences to MagMax in brackets.
    """
    lines = []
    for name in comparison.benchmarks:
        starts = {t.start for t in comparison.trained if t.benchmark == name}
        ordered = sorted(starts, key=lambda start: (start != MAGMAX.start, start))
        for start in ordered if len(starts) > 1 else ():
            recipes = [Recipe(start, rule) for rule in rules]
            lines.append([name, start, *(_on(comparison, recipe, name) for recipe in recipes)])
    head = ["benchmark", "start", *(words.rule(Recipe("", rule)) for rule in rules)]
    return table(head, lines, 2) if lines else ""


def _on(comparison: Comparison, recipe: Recipe, benchmark: str) -> str:
    """A cell: accuracy on a benchmark, and the difference to MagMax; "" if not evaluated."""
    scores = comparison.scores(recipe, "each", benchmarks=[benchmark])
    if not scores:
        return ""
    difference = comparison.difference(recipe, "each", benchmarks=[benchmark])
    return words.compared(estimate(scores.values()), difference, benchmark)


def cost(comparison: Comparison) -> str:
    """Hours of training by benchmark and start."""
    groups: dict[tuple[str, str], list[Training]] = {}
    for training in comparison.trained:
        groups.setdefault((training.benchmark, training.start), []).append(training)
    lines = [
        [
            benchmark,
            start,
            str(len(found)),
            f"{sum(t.hours for t in found) / len(found):.2f}",
            f"{sum(t.hours for t in found):.2f}",
        ]
        for (benchmark, start), found in groups.items()
    ]
    total = sum(t.hours for t in comparison.trained)
    lines.append(["all", "", str(len(comparison.trained)), "", f"{total:.2f}"])
    return table(["benchmark", "start", "trainings", "hours each", "hours"], lines, 2)
