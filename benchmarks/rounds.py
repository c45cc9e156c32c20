"""All contenders in turn on the same files, for one number of models."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.comparing import compare
from benchmarks.contenders import Contender, Job
from benchmarks.measuring import Limits, Run, measure
from benchmarks.peers.arguments import WEIGHTS
from benchmarks.turns import ROOT, environment


@dataclass(frozen=True)
class Round:
    """What came of it."""

    runs: dict[str, list[Run]]
    """By the contender's name, in their order."""
    differences: dict[str, str]
    """How a contender's merged model differs from ours, by name."""


def run_round(
    field: Sequence[Contender],
    paths: Sequence[Path],
    outputs: Path,
    repeats: int,
    limits: Limits,
    once_over: float,
    told: Callable[[str, int, Run], None] = lambda name, repeat, run: None,
) -> Round:
    """Runs every contender `repeats` times, round robin: what drifts, drifts for all.

    One that fails or exceeds a limit is not run again, nor is one that takes more than `once_over`
    seconds.

    Args:
      paths: directories of theta_0, theta_1 ... theta_N.
      outputs: a directory for merged models, which are removed once they have been compared.
      told: is called after every run with the contender's name and the number of the repeat.
    """
    jobs = {c.name: Job(paths[0], paths[1:], outputs / str(i)) for i, c in enumerate(field)}
    runs: dict[str, list[Run]] = {contender.name: [] for contender in field}
    outputs.mkdir(parents=True)
    for repeat in range(repeats):
        for name, contender in ((contender.name, contender) for contender in field):
            if not _all_well(runs[name]) or any(run.seconds > once_over for run in runs[name]):
                continue
            job = jobs[name]
            shutil.rmtree(job.output, ignore_errors=True)
            _settle(paths)
            log = job.output.with_suffix(".log")
            run = measure(contender.command(job), limits, log, ROOT, environment())
            runs[name].append(run)
            told(name, repeat, run)
    merged = {c.name: jobs[c.name].output for c in field if c.merges and _all_well(runs[c.name])}
    differences = {
        contender.name: str(compare(merged[contender.ours], merged[contender.name]))
        for contender in field
        if contender.name != contender.ours and {contender.name, contender.ours} <= merged.keys()
    }
    shutil.rmtree(outputs)
    return Round(runs, differences)


def _all_well(runs: Sequence[Run]) -> bool:
    return all(run.outcome == "ok" for run in runs)


def _settle(paths: Sequence[Path]) -> None:
    """Nobody waits for what another wrote, and everybody finds the models in the page cache."""
    os.sync()
    buffer = bytearray(1 << 22)
    for path in paths:
        with open(path / WEIGHTS, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
