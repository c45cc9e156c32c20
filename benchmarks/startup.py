"""Start-up: imports, --help, the quickstart and the first training step, as whole processes.

python -m benchmarks.startup --peers PYTHON --output startup.md
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from benchmarks.choosing import check_positive, matching
from benchmarks.first_step import PARTS
from benchmarks.machine import absences, describe, peers_python, why_absent
from benchmarks.output import Output
from benchmarks.processes import CACHES, MILESTONES, STEPPED, TORCH, Bench
from benchmarks.shapes import SIZES
from benchmarks.starts import QUICKSTART_GOAL, Start, starts
from benchmarks.tables import markdown
from benchmarks.times import ALL, Times, part_rows, start_rows
from benchmarks.trainers import tower_config
from magmax_jax.errors import exit_code


@dataclass(frozen=True)
class Settings:
    """Times what comes before the work, and the quickstart, which is little else."""

    repeats: int = 5
    """Of every measurement, in turn, whose median is told."""
    only: tuple[str, ...] = ("*",)
    """Shell patterns of the names of imports and commands; without any, none is timed."""
    run: str = "quickstart"
    """Arguments of experiments.run that are timed without and with compiled programs; "" for
    none."""
    steps: tuple[Literal["tiny", "small", "vit-b16", "vit-l14"], ...] = ("tiny", "vit-b16")
    """Image towers whose first training step is timed; tiny is no model of use."""
    batch_size: int = 2
    """Of that step."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of that step's computation."""
    peers: Path = Path(sys.executable)
    """The python of the peers' environment (requirements-peers.txt)."""
    time_limit: float = 900.0
    """Seconds; a process that takes longer is ended."""
    output: Path | None = None
    """File for the tables; every single run goes into a .jsonl beside it."""


def run(settings: Settings) -> None:
    """Shows a table of imports and commands, one of the run, and one for each first step.

    Raises:
      UserError: the peers' python cannot be run, nothing is called so, or a number is not positive.
    """
    check_positive(
        {
            "--repeats": settings.repeats,
            "--batch-size": settings.batch_size,
            "--time-limit": settings.time_limit,
        }
    )
    peers = peers_python(settings.peers)
    chosen = matching(starts(peers), settings.only) if settings.only else []
    output = Output(settings.output, describe(peers) | {"repeats": str(settings.repeats)})
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        bench = Bench(Path(folder), settings.repeats, settings.time_limit, Times(output))
        if chosen:
            output.show(starts_table(chosen, peers, bench))
        for table in (run_table, steps_tables):
            for text in table(settings, peers, bench):
                output.show(text)


def starts_table(chosen: Sequence[Start], peers: Path, bench: Bench) -> str:
    """Imports and `--help`, ours and others'."""
    absent = absences(peers, chosen)
    bench.time_starts([start for start in chosen if start.name not in absent])
    columns = ["", "seconds", "all runs", "goal", "met"]
    table = markdown(columns, start_rows(chosen, absent, bench.times))
    return f"## Imports and commands\n\n{table}"


def run_table(settings: Settings, peers: Path, bench: Bench) -> Iterator[str]:
    """A run's way to its first step and to its end, and whether the quickstart met its goal."""
    if not settings.run:
        return
    bench.time_run(settings.run)
    rows = part_rows("run", CACHES, [*MILESTONES, ALL], bench.times)
    title = f"`python -m experiments.run {settings.run}`: seconds from its start until"
    text = f"## {title}\n\n{markdown(_columns(CACHES), rows)}"
    if settings.run == "quickstart":
        said = (f"{kind} {bench.times.met(QUICKSTART_GOAL, 'run', kind, ALL)}" for kind in CACHES)
        text += f"\n\nAll of it under {QUICKSTART_GOAL:g} s: {', '.join(said)}."
    yield text


def steps_tables(settings: Settings, peers: Path, bench: Bench) -> Iterator[str]:
    """The first training step of each size, part by part, beside torch's."""
    missing = settings.steps and why_absent(peers, "torch, transformers")
    kinds = (*CACHES, TORCH)
    for size in settings.steps:
        facts = {
            "size": size, "config": tower_config(SIZES[size].model),
            "batch_size": settings.batch_size, "dtype": settings.dtype,
        }  # fmt: skip
        device = bench.time_steps(facts, None if missing else peers)
        table = markdown(_columns(kinds), part_rows(size, kinds, [*PARTS, STEPPED], bench.times))
        what = f"{size}, batch of {settings.batch_size}, {settings.dtype}, on {device}"
        note = f"\n\ntorch is absent: {missing}" if missing else ""
        yield f"## The first training step: {what}\n\n{table}{note}"


def _columns(kinds: Sequence[str]) -> list[str]:
    return ["", *(f"{kind}, s" for kind in kinds), "all runs"]


def main(argv: Sequence[str] | None = None) -> int:
    settings = tyro.cli(Settings, args=argv, prog="benchmarks.startup", description=__doc__)
    return exit_code(lambda: run(settings))


if __name__ == "__main__":
    sys.exit(main())
