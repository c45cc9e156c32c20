"""The page of a comparison, in Markdown: every number and conclusion comes from the runs' rows."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from magmax_jax.errors import Program, counted
from magmax_jax.report.items import percent
from magmax_jax.report.recipes import tables, words
from magmax_jax.report.recipes.comparison import LIMIT, MAGMAX, Comparison, Way
from magmax_jax.report.recipes.trainings import seeds_of
from magmax_jax.runs.model_ref import FINETUNED

TITLE = "# Merging over time: where to start, and how to merge"

WAYS: dict[Way, tuple[str, str]] = {
    "shared": (
        "Every recipe at one scale",
        "One scale for all benchmarks and seeds: the best on the mean of the benchmarks' "
        "validation images.",
    ),
    "each": (
        "Every recipe with a scale chosen for each training",
        "For each training the scale that is best on its own validation images. All differences "
        "are relative to MagMax's line.",
    ),
    "published": ("Every recipe at its published scale", "The rule's default scale."),
}


def page(comparison: Comparison, program: Program, runs: Sequence[Path], figure: str) -> str:
    """The whole page.

    Args:
      program: names the commands.
      runs: arguments of the command that writes the page.
      figure: link to the picture.
    """
    sections = [
        TITLE,
        _introduction(comparison),
        "## What to use",
        *_conclusion(comparison),
        f"![Differences to MagMax by benchmark]({figure})",
        "Differences to MagMax at its best scale, each recipe at one scale; bars show one standard "
        "error on either side.",
        "## Which recipe for which situation",
        "For each group of benchmarks: the constant-memory recipe that is best on its validation "
        "images, at one scale, and its result on the test images; the last column shows the recipe "
        "recommended for all benchmarks.",
        tables.by_situation(comparison),
    ]
    lean = comparison.recommended()
    rules = dict.fromkeys([FINETUNED, MAGMAX.rule, *([lean.rule] if lean else [])])
    if starts := tables.by_start(comparison, list(rules)):
        sections += [
            "## Where to start",
            "Benchmarks that were trained with several starts: accuracy on test images in % ± "
            "standard error over seeds, of the last fine-tuned model and of merges at the scale "
            "chosen for each training; in brackets the paired difference to MagMax, in points.",
            starts,
        ]
    for way, (title, caption) in WAYS.items():
        sections += [f"## {title}", f"{caption} {_LEGEND}", tables.recipes(comparison, way)]
    shown = [MAGMAX, *([lean] if lean not in (None, MAGMAX) else [])]
    sections += [
        "## What the scale does",
        "Accuracy on validation images, in %. At scale 0 a merge is the pretrained model; a refit "
        "(RULE+lda) is then the pretrained model with its last map fitted to the tasks: what "
        "fitting alone is worth.",
        tables.by_scale(comparison, shown),
        "## What did not work",
        *_failures(comparison),
        "## How scales and recipes were chosen",
        _choice(comparison),
        "## Cost",
        _cost(comparison),
        tables.cost(comparison),
        "## Commands",
        _commands(program, runs),
    ]
    return "\n\n".join(map(_wrapped, sections)) + "\n"


def _wrapped(section: str) -> str:
    """Wraps sentences at 100 characters; tables, links and commands stay as they are."""
    if section.startswith(("|", "!", "```")):
        return section.rstrip("\n")
    return textwrap.fill(section, 100, break_long_words=False, break_on_hyphens=False)


def validation_page(comparison: Comparison) -> str:
    """Validation results only, before any test image is used: the table and the choice."""
    recipe = comparison.recommended()
    text = [tables.recipes(comparison, way, "validation") for way in ("shared", "each")]
    if recipe is not None:
        at = comparison.shared_scale(recipe)
        text.append(f"chosen on validation images: {words.named(recipe, at)}\n")
    return "\n".join(text)


_LEGEND = (
    "Accuracy in % ± standard error over seeds; in brackets the paired difference to MagMax at the "
    f"scale chosen for each training, in points; ↓ more than {words.POINTS} below it. Memory: "
    "constant, or all tasks where the rule needs every task vector."
)


def _introduction(comparison: Comparison) -> str:
    seeds = ", ".join(map(str, seeds_of(comparison.trained)))
    starts = ", ".join(dict.fromkeys(f"`{t.start}`" for t in comparison.trained))
    merged = {recipe.rule for recipe in comparison.recipes if recipe.is_merged}
    return (
        f"{counted(len(comparison.trained), 'training')} with seeds {seeds} on "
        f"{'; '.join(comparison.benchmarks)}. Starts: {starts}. A recipe is a start (where each "
        f"task starts from), one of {counted(len(merged), 'rule')} and a scale. MagMax is start "
        f"`{MAGMAX.start}`, rule `{MAGMAX.rule}`; recipes are compared with it at its best scale. "
        "This page is written by a command from the rows of the runs."
    )


def _conclusion(comparison: Comparison) -> Iterator[str]:
    recipe = comparison.recommended()
    if recipe is None:
        yield "No constant-memory recipe was evaluated on every benchmark together with MagMax."
        return
    at = comparison.shared_scale(recipe)
    validated = comparison.difference(recipe, "shared", "validation")
    tested = comparison.difference(recipe, "shared")
    if recipe == MAGMAX:
        yield (
            "On validation images no constant-memory recipe is better than MagMax itself at one "
            f"scale ({words.scale(at)}) without being more than {words.POINTS} below it on a "
            "benchmark."
        )
    elif validated is not None:
        lost = "; ".join(validated.worse)
        although = f", although more than {words.POINTS} below it on {lost}" if lost else ""
        yield (
            f"**{words.opening(recipe, at)}** is the constant-memory recipe chosen on validation "
            "images, where it is "
            f"{words.points(validated.mean)} points from MagMax on the mean of the "
            f"benchmarks{although}."
        )
    if tested is not None:
        yield f"On test images {words.verdict(tested)}"
    rival = comparison.recommended(every_seed=False)
    promising = rival and rival != recipe and comparison.difference(rival, "shared", "validation")
    if rival and promising and validated is not None:
        name = words.opening(rival, comparison.shared_scale(rival))
        yield (
            f"{name} is at {words.points(promising.mean)} points on validation images, with "
            f"{promising.pairs} of {validated.pairs} pairs of trainings: it is not recommended "
            "until it has the rest."
        )
        if (found := comparison.difference(rival, "shared")) is not None:
            yield f"On test images {words.verdict(found)}"


def _failures(comparison: Comparison) -> Iterator[str]:
    found = {r: comparison.difference(r, "shared") for r in comparison.recipes if r.is_merged}
    known = {recipe: each.mean.mean for recipe, each in found.items() if each is not None}
    below = [recipe for recipe, mean in known.items() if mean < -LIMIT]
    yield (
        f"At one scale {len(below)} of {counted(len(known), 'recipe')} are more than "
        f"{words.POINTS} below MagMax on the mean of the benchmarks."
    )
    for what, other in (("rule", "start"), ("start", "rule")):
        best: dict[str, float] = {}
        for recipe, mean in known.items():
            name = getattr(recipe, what)
            best[name] = max(mean, best.get(name, mean))
        lost = [f"`{name}` ({percent(mean)})" for name, mean in best.items() if mean < -LIMIT]
        if lost:
            yield (
                f"Below it with every {other}, in brackets with the best one: {what} "
                f"{', '.join(lost)}."
            )
    lean, full = comparison.recommended(), comparison.recommended(streaming=False)
    one = lean and comparison.difference(lean, "shared")
    all_tasks = full and comparison.difference(full, "shared")
    if full and one and all_tasks:
        yield (
            "The best rule on validation images that keeps every task vector is "
            f"{words.named(full, comparison.shared_scale(full))}: on test images it is "
            f"{words.points(all_tasks.mean)} points from MagMax on the mean of the benchmarks, the "
            f"constant-memory recipe {words.points(one.mean)}."
        )


def _choice(comparison: Comparison) -> str:
    held: dict[str, None] = {}
    for t in comparison.trained:
        held[f"{t.images('validation'):,} of {t.benchmark}"] = None
    scales = sorted(
        {
            s
            for t in comparison.trained
            for r in t.rules("validation")
            for s in t.of("validation", r)
            if s is not None
        }
    )
    return (
        "A share of each class's training images was held out of all trainings "
        f"({'; '.join(held)}). Every rule was evaluated on these at scales between "
        f"{words.scale(scales[0])} and {words.scale(scales[-1])}, and at its published one. These "
        "accuracies alone determine, for each recipe, the scale for each training and the one for "
        "all benchmarks. They also determine the recommended recipe: the best on the mean of the "
        f"benchmarks of those whose validation accuracy is at most {words.POINTS} below MagMax's "
        "on each and that were trained with the most seeds. The command that writes this page "
        "evaluates test images only afterwards, and only at these scales and the published ones. "
        "Among equally good scales, the one closest to 0 is taken. Each benchmark has the same "
        "weight; the error of a mean over benchmarks combines theirs."
    )


def _cost(comparison: Comparison) -> str:
    starts = [start for t in comparison.trained for start in t.run.about.get("starts", [])]
    devices = dict.fromkeys(start["devices"] for start in starts if "devices" in start)
    where = f" on {', '.join(devices)}" if devices else ""
    return f"Wall-clock hours of training{where}, without evaluation."


def _commands(program: Program, runs: Sequence[Path]) -> str:
    given = [str(run) for run in runs]
    commands = [program.line("grid", "over-time"), program.line("results", *given)]
    return "\n".join(["```", *commands, "```"])
