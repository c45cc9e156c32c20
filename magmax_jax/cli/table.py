"""The paper's tables of our runs: `magmax table RUNS... [--format latex]`."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from magmax_jax.cli.command import Command
from magmax_jax.errors import MAGMAX, Program, UserError, harmless
from magmax_jax.io.atomic import refusing, write_text
from magmax_jax.registry import COMMANDS, METRICS
from magmax_jax.report.csv_text import csv_text
from magmax_jax.report.paper_table import (
    Column,
    Protocol,
    columns,
    find_runs,
    mean_std,
    row_names,
)


def metrics() -> dict[str, str]:
    """Names of metrics by their command-line names."""
    return {metric.flag or name: name for name, metric in METRICS.items()}


@dataclass(frozen=True)
class Table:
    """Finished runs as a table: a row for each method, a column for each setting, mean and standard
    deviation over seeds; published figures are in brackets beside ours."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Runs, or folders that contain runs at any depth."""
    format: Literal["markdown", "csv", "latex"] = "markdown"
    """csv has one line per value, with its source."""
    metric: Annotated[
        str,
        tyro.conf.arg(
            constructor_factory=lambda: Literal[tuple(metrics())],
            help_behavior_hint="(default: last)",
        ),
    ] = "last"
    """Metric to show: accuracies in %, differences of accuracies in points."""
    protocol: Protocol | None = None
    """agnostic: among all classes; aware: among the task's own. Default: as published, that is
    agnostic, except aware (mean over data sets) for kind datasets."""
    output: Path | None = None
    """Write to this file instead of the terminal."""


def markdown(found: Sequence[Column], metric: str) -> str:
    """A Markdown table, and a note for each source of published figures."""
    sources = _sources(found)
    lines = [["method", *(column.title for column in found)], ["---", *["---:"] * len(found)]]

    def beside(percent: float, mark: int) -> str:
        return f" [{percent:.1f}]{_raised(mark)}"

    for name in row_names(found):
        cells = _cells(found, name, sources, "{:.1f} ± {:.1f} ({})", "{:.1f} ({})", beside)
        lines.append([name, *cells])
    brackets = "; in brackets: published" if sources else ""
    caption = f"{_title(metric)}: mean ± standard deviation (number of seeds){brackets}"
    notes = "".join(f"{_raised(number)} {source}\n" for source, number in sources.items())
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{table}\n{caption}\n" + (f"\n{notes}" if notes else "")


def latex(found: Sequence[Column], metric: str) -> str:
    """A LaTeX tabular that uses booktabs; the notes are comments."""
    sources = _sources(found)
    lines = [" & ".join(["method", *(_escaped(column.title) for column in found)])]
    beside = " [{:.1f}$^{{{}}}$]".format
    for name in row_names(found):
        cells = _cells(found, name, sources, "${:.1f} \\pm {:.1f}$", "${:.1f}$", beside)
        lines.append(" & ".join([_escaped(name), *cells]))
    head, *body = (f"{line} \\\\\n" for line in lines)
    notes = "".join(f"% {number}: {source}\n" for source, number in sources.items())
    seeds = sorted({len(v) for column in found for v in column.values.values()})
    counts = " or ".join(map(str, seeds))
    return (
        f"% {_title(metric)}: mean and standard deviation over {counts} seeds\n"
        f"\\begin{{tabular}}{{l{'r' * len(found)}}}\n\\toprule\n{head}\\midrule\n"
        f"{''.join(body)}\\bottomrule\n\\end{{tabular}}\n{notes}"
    )


def as_csv(found: Sequence[Column], metric: str) -> str:
    """A line for each setting and method; numbers with all their digits."""
    lines: list[list[Any]] = [
        ["setting", "method", "mean", "std", "seeds", "published", "source"],
    ]
    for column in found:
        for name in row_names([column]):
            mean, std, count = mean_std(column.values[name].values())
            figure = column.published.get(name)
            published = (figure.percent, figure.source) if figure else ("", "")
            spread = "" if std is None else std
            lines.append([column.title, name, mean, spread, count, *published])
    return csv_text(lines)


LATEX = str.maketrans(
    {letter: f"\\{letter}" for letter in "_%&$#{}"}
    | {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}
)

FORMATS = {"markdown": markdown, "latex": latex, "csv": as_csv}


def _title(metric: str) -> str:
    found = METRICS[metric]
    mean = "" if found.weighted else ", mean over the tasks"
    return f"{found.heading[0].lower()}{found.heading[1:]}{mean}"


def _cells(
    found: Sequence[Column],
    name: str,
    sources: dict[str, int],
    several: str,
    one: str,
    beside: Callable[[float, int], str],
) -> list[str]:
    """One row: our values, each followed by `beside` of the published figure and source number."""
    cells = []
    for column in found:
        figure, published = column.published.get(name), ""
        if figure and (mark := sources.get(figure.source)):
            published = beside(figure.percent, mark)
        cells.append(_value(column, name, several, one) + published)
    return cells


def _value(column: Column, name: str, several: str, one: str) -> str:
    if name not in column.values:
        return ""
    mean, std, count = mean_std(column.values[name].values())
    return one.format(mean, count) if std is None else several.format(mean, std, count)


def _sources(found: Sequence[Column]) -> dict[str, int]:
    """Sources of the figures beside our rows, numbered."""
    rows = row_names(found)
    listed = [f.source for c in found for name, f in c.published.items() if name in rows]
    return {source: number for number, source in enumerate(dict.fromkeys(listed), start=1)}


def _raised(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _escaped(text: str) -> str:
    """A text for LaTeX, with special characters escaped."""
    return text.translate(LATEX)


def main(argv: list[str], program: Program = MAGMAX) -> None:
    """Prints or writes the table of the runs that the command line names."""
    chosen = tyro.cli(Table, args=argv, prog=program.line("table"))
    if not chosen.runs:
        raise UserError("no RUNS are given: name runs, or folders that contain some")
    runs, notes = find_runs(chosen.runs)
    for note in notes:
        print(harmless(note), file=sys.stderr)
    if not runs:
        where = ", ".join(map(str, chosen.runs))
        raise UserError(
            f"{where}: there is no finished run; give runs, or folders that contain some"
        )
    metric = metrics()[chosen.metric]
    text = FORMATS[chosen.format](columns(runs, metric, chosen.protocol), metric)
    if chosen.output is None:
        print(text, end="")
        return
    with refusing(chosen.output):
        write_text(chosen.output, text)


COMMANDS.register("table", Command("Shows finished runs as the paper's tables.", main))
