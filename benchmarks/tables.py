"""Results as Markdown."""

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.contenders import Contender
from benchmarks.measuring import Run

COLUMNS = [
    "", "seconds", "all runs", "times ours", "private memory", "resident memory", "output",
]  # fmt: skip


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table: the first column and the last are text, all others are aligned to the right."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:-1]), "-" * widths[-1]]
    return "\n".join([line(columns), line(rule), *map(line, rows)])


def facts(description: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in description.items())


def merge_rows(
    contenders: Sequence[Contender],
    runs: Mapping[str, Sequence[Run]],
    absent: Mapping[str, str],
    differences: Mapping[str, str],
) -> list[list[str]]:
    """A row for every contender, one that is absent or that did not finish included.

    Args:
      runs: by the contender's name, every one that was made.
      absent: why, by name.
      differences: what was found when outputs were compared, by name.
    """
    rows = []
    for contender in contenders:
        name = contender.name
        if name in absent:
            rows.append([name, f"absent: {absent[name]}", "", "", "", "", ""])
            continue
        done = [run for run in runs[name] if run.outcome == "ok"]
        failed = [run for run in runs[name] if run.outcome != "ok"]
        ours = [run.seconds for run in runs.get(contender.ours, ()) if run.outcome == "ok"]
        ratio = ""
        if done and ours:
            ratio = f"{median(done) / statistics.median(ours):.2f}"
        rows.append(
            [
                name,
                failed[0].outcome if failed else f"{median(done):.2f}",
                " ".join(f"{run.seconds:.2f}" for run in runs[name]),
                "" if failed else ratio,
                _size(max(run.anonymous for run in runs[name])),
                _size(max(run.resident for run in runs[name])),
                differences.get(name, ""),
            ]
        )
    return rows


def median(runs: Sequence[Run]) -> float:
    return statistics.median(run.seconds for run in runs)


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.0f} MB"
