"""Recipes of merging over time compared: `magmax results RUNS... [--output docs/results.md]`."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from magmax_jax.cli.command import Command
from magmax_jax.cli.engine import Engine
from magmax_jax.config import SweepConfig
from magmax_jax.errors import MAGMAX, Program, UserError, counted, harmless
from magmax_jax.io.atomic import refusing, write_text
from magmax_jax.registry import COMMANDS

if TYPE_CHECKING:  # JAX takes seconds to import, and --help does not need it
    from magmax_jax.report.recipes.comparison import Comparison
    from magmax_jax.report.recipes.trainings import Training

Missing = Mapping["Training", Mapping[str, Sequence[float]]]


@dataclass(frozen=True)
class Results:
    """Compares recipes (where tasks start, a merge rule and its scale) with MagMax, over runs that
    were swept on validation images, such as those of the grid over-time: writes a page in Markdown
    and a figure beside it.

    Scales and the recommended recipe are chosen on validation images. The chosen ones are then
    evaluated on the test images, if missing; the page is made from the rows of the runs.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Runs, or folders that contain runs at any depth."""
    output: Path = Path("docs/results.md")
    """The page; the figure is written beside it under the same name, ending in .png."""
    split: Literal["test", "validation"] = "test"
    """validation: show validation results only; evaluate no test images and write nothing."""
    evaluate: bool = True
    """Evaluate missing models; otherwise the page uses only what has been evaluated."""
    allow_changed: bool = False
    """Continue even if the files of a run's model or data have changed."""
    engine: Annotated[Engine, tyro.conf.arg(name="")] = field(default_factory=Engine)


def main(argv: list[str], program: Program = MAGMAX) -> None:
    """Writes the page about the runs that the command line names."""
    chosen = tyro.cli(Results, args=argv, prog=program.line("results"))
    if not chosen.runs:
        raise UserError("no RUNS are given: name runs, or folders that contain some")
    from magmax_jax.report.recipes import figure
    from magmax_jax.report.recipes.page import page, validation_page
    from magmax_jax.report.recipes.situations import situations

    comparison = _compared(chosen, with_notes=True)
    if chosen.split == "validation":
        print(validation_page(comparison), end="")
        return
    if chosen.evaluate:
        if missing := comparison.unvalidated():
            _evaluate(missing, "validation", chosen)
            comparison = _compared(chosen)
        groups = [found.benchmarks for found in situations(comparison)]
        if missing := comparison.untested(groups):
            _evaluate(missing, "test", chosen)
            comparison = _compared(chosen)
    picture = chosen.output.with_suffix(".png")
    figure.write(comparison, picture)
    with refusing(chosen.output):
        write_text(chosen.output, page(comparison, program, chosen.runs, picture.name))
    count = counted(len(comparison.trained), "training")
    print(f"{chosen.output}: {count}; {picture.name} is the figure beside it")


def _compared(chosen: Results, with_notes: bool = False) -> "Comparison":
    """The comparison, from what the runs hold now.

    Raises:
      UserError: no run can be compared.
    """
    from magmax_jax.report.paper_table import find_runs
    from magmax_jax.report.recipes.comparison import Comparison
    from magmax_jax.report.recipes.trainings import trainings

    runs, notes = find_runs(chosen.runs)
    trained, others = trainings(runs)
    if with_notes:
        for note in (*notes, *others):
            print(harmless(note), file=sys.stderr)
    if not trained:
        where = ", ".join(map(str, chosen.runs))
        raise UserError(
            f"{where}: there is no finished run whose merges were swept on validation images; "
            "sweep one with --sweep.rules, or run the grid over-time"
        )
    return Comparison(trained)


def _evaluate(missing: Missing, split: str, chosen: Results) -> None:
    """Evaluates the missing rules and scales of each run, into its sweep.jsonl."""
    chosen.engine.start()
    from dataclasses import replace

    from magmax_jax.api.sweep_run import sweep_run
    from magmax_jax.config import MeshConfig
    from magmax_jax.runs.locate import stored_config
    from magmax_jax.runs.model_ref import ModelRef
    from magmax_jax.runs.progress import TerminalProgress

    progress = TerminalProgress()
    test: Literal["all", "later"] = "all" if split == "test" else "later"
    for number, (training, rules) in enumerate(missing.items(), start=1):
        run = training.run.path
        count = counted(sum(map(len, rules.values())), "model")
        progress.say(f"[{number}/{len(missing)}] {run}: {count} on {split} images")
        models = [ModelRef(rule, scale) for rule, scales in rules.items() for scale in scales]
        sweeps = [SweepConfig(tuple(map(str, models)), test=test)]
        config = replace(stored_config(run), mesh=MeshConfig())
        sweep_run(run, config, sweeps, progress, chosen.allow_changed)


COMMANDS.register("results", Command("Compares starts, rules and scales with MagMax.", main))
