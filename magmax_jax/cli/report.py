"""Runs as one page: `magmax report RUN [RUN ...]`."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from magmax_jax.cli.command import Command
from magmax_jax.errors import MAGMAX, Program, UserError, counted, harmless
from magmax_jax.registry import COMMANDS


@dataclass(frozen=True)
class Report:
    """Writes index.html, one self-contained file, with the same figures as PNG and SVG files and
    the numbers as CSV files beside it. Runs of one scenario are compared side by side."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Runs, finished or not, or folders that contain runs at any depth."""
    out: Path | None = None
    """Directory of the report (default: report/ in the run, or in the folder that contains all of
    the runs). An earlier report there is replaced."""
    allow_changed: bool = False
    """Continue even if the files of a run's model or data, where they still exist, have changed."""


def main(argv: list[str], program: Program = MAGMAX) -> None:
    """Writes the report of the runs that the command line names."""
    chosen = tyro.cli(Report, args=argv, prog=program.line("report"))
    if not chosen.runs:
        raise UserError("no RUNS are given: name runs, or folders that contain some")
    from magmax_jax.report.write import write

    page, number, notes = write(chosen.runs, chosen.out, program, chosen.allow_changed)
    for note in notes:
        print(harmless(note), file=sys.stderr)
    count = counted(number, "run")
    print(f"{page}: {count}, {page.stat().st_size / 1e6:.1f} MB; figures and CSV files beside it")


COMMANDS.register("report", Command("Writes one HTML page of figures and tables about runs.", main))
