"""`benchmarks.merge memory`: folds against copies, the exact threshold, and whole merges.

No JAX runs in this process, which would take memory of an accelerator: every measurement is a
child's.
"""

import dataclasses
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks import device, threshold
from benchmarks.cells import COLUMNS, GROWTH, Bounds, Cell, growth_rows, measure, row
from benchmarks.choosing import check_positive
from benchmarks.machine import describe, peers_python
from benchmarks.output import Output
from benchmarks.tables import markdown
from benchmarks.turns import Contestant, Facts, take_turns

FOLDS = ["", "milliseconds", "MB moved", "GB/s", "share"]


@dataclass(frozen=True)
class Memory:
    """Times merging in memory, on the accelerator if JAX finds one, else on the CPU."""

    sizes: tuple[Literal["vit-b16", "vit-l14", "small", "tiny"], ...] = ("vit-b16", "vit-l14")
    """Image towers of CLIPs, 86.2 and 304.0 M parameters; the others are for trials."""
    tasks: tuple[int, ...] = (2, 8, 20, 50)
    """How many models are merged."""
    rules: tuple[str, ...] = ("max_magnitude", "average", "ties", "iso_c", "tsv_m", "opcm")
    """Of whole merges; any of magmax_jax.merging.rules."""
    numbers: tuple[int, ...] = (60_000_000, 150_000_000)
    """Of how many numbers the threshold is sought."""
    only: tuple[Literal["folds", "threshold", "merges"], ...] = ("folds", "threshold", "merges")
    """What is measured. Without folds, whole merges have no copy to be compared with."""
    repeats: int = 5
    """Of every measurement, whose median is told."""
    at_most: float = 120.0
    """Seconds that a merge may take; one that would take longer, as fewer tasks or a smaller tower
    let one expect, is not run, and one is repeated only so far as the repeats take no longer. One
    that has not ended after three times as long and a minute is ended."""
    memory_limit: float | None = None
    """GB; what does not fit is told, not tried (default: 0.9 of the device's or the machine's)."""
    seed: int = 0
    peers: Path = Path(sys.executable)
    """The python of an environment with torch."""
    output: Path | None = None
    """File for the tables; every single time goes into a .jsonl beside it."""


def run(settings: Memory) -> None:
    """Prints the tables, and writes them.

    Raises:
      UserError: there is no such rule, a number is not positive, or `peers` cannot be run.
    """
    _check(settings)
    peers, found = peers_python(settings.peers), device.ask()
    limit = settings.memory_limit * 1e9 if settings.memory_limit else 0.9 * found.memory_bytes
    facts = found.facts | {
        "models": "image towers, float32, blocks stacked",
        "repeats": str(settings.repeats),
        "limits": f"{limit / 1e9:.1f} GB and {settings.at_most:g} s a merge",
    }
    output = Output(settings.output, describe(peers) | facts)
    bounds = Bounds(settings.repeats, settings.at_most, limit)
    copies: dict[str, float] = {}
    for size in settings.sizes:
        if "folds" in settings.only:
            copies[size] = _folds(size, settings, output)
    if "threshold" in settings.only:
        _thresholds(settings, peers, output)
    if "merges" in settings.only:
        _merges(settings, bounds, copies, output)


def _folds(size: str, settings: Memory, output: Output) -> float:
    """Shows them; returns bytes a second of the fastest copy, 0 where the measurement failed."""
    given = {"size": size, "repeats": settings.repeats, "seed": settings.seed}
    command = [sys.executable, "-m", "benchmarks.folds"]
    (done,) = take_turns([Contestant("folds", command, given)], repeats=0)
    title = f"## One more model: {size}"
    if done.failure is not None:
        output.show(f"{title}\n\nfailed: {done.failure}")
        return 0.0
    timings = done.facts["timings"]
    for timing in timings:
        output.record({"size": size} | timing)
    reference = max((t for t in timings if t["copies"]), key=_rate)
    rows = [
        [
            t["name"] + (", the reference" if t is reference else ""),
            f"{1e3 * statistics.median(t['seconds']):.3g}",
            f"{t['moved'] / 1e6:.0f}",
            f"{_rate(t) / 1e9:.1f}",
            f"{100 * _rate(t) / _rate(reference):.0f} %",
        ]
        for t in timings
    ]
    output.show(f"{title}\n\n{markdown(FOLDS, rows)}")
    return _rate(reference)


def _rate(timing: Facts) -> float:
    return timing["moved"] / statistics.median(timing["seconds"])


def _thresholds(settings: Memory, peers: Path, output: Output) -> None:
    rows = []
    for n in settings.numbers:
        done = threshold.compare(n, peers, settings.repeats, settings.seed)
        for one in done:
            output.record(
                {"threshold": n, "contender": one.name, "seconds": one.seconds} | one.facts
            )
        rows.append(threshold.row(n, done))
    output.show(f"## The exact global threshold\n\n{markdown(threshold.COLUMNS, rows)}")


def _merges(settings: Memory, bounds: Bounds, copies: dict[str, float], output: Output) -> None:
    done: list[Cell] = []
    for size in settings.sizes:
        cells = [Cell(size, rule, t) for rule in settings.rules for t in sorted(settings.tasks)]
        for cell in measure(cells, bounds, settings.seed, done):
            done.append(cell)
            output.record(dataclasses.asdict(cell))
            told = f"{cell.median:.3g} s" if cell.outcome == "ok" else cell.outcome
            print(f"{size}, {cell.rule}, {cell.tasks}: {told}", file=sys.stderr, flush=True)
        rows = [row(cell, copies.get(size, 0.0)) for cell in cells]
        output.show(f"## Whole merges: {size}\n\n{markdown(COLUMNS, rows)}")
        if growth := growth_rows(cells):
            output.show(f"### Growth: {size}\n\n{markdown(GROWTH, growth)}")


def _check(settings: Memory) -> None:
    from magmax_jax.merging import rules

    for name in settings.rules:
        rules.options(name)
    check_positive(
        {
            "--tasks": settings.tasks,
            "--numbers": settings.numbers,
            "--repeats": settings.repeats,
            "--at-most": settings.at_most,
            "--memory-limit": settings.memory_limit,
        }
    )
