"""Seconds of whole processes and of their parts, by what was timed."""

import dataclasses
import statistics
import sys
from collections.abc import Mapping, Sequence

from benchmarks.measuring import Run
from benchmarks.output import Output
from benchmarks.starts import Start

ALL = "all is done"
"""The part that is the whole."""


class Times:
    """Seconds of runs by what was timed; every run is recorded, and told as it comes."""

    def __init__(self, output: Output):
        self._output = output
        self.seconds: dict[tuple[str, ...], list[float]] = {}
        self.failures: dict[tuple[str, ...], str] = {}

    def add(
        self, name: tuple[str, ...], repeat: int, run: Run, parts: Mapping[str, float] | None = None
    ) -> None:
        """One run; `parts` are seconds of its own parts, or until its milestones."""
        told = ", ".join(name)
        print(f"{told}: {run.seconds:.2f} s, {run.outcome}", file=sys.stderr, flush=True)
        self._output.record(
            {"what": told, "repeat": repeat} | dataclasses.asdict(run) | {"parts": parts or {}}
        )
        if run.outcome != "ok":
            self.failures[name] = run.outcome
            return
        for part, seconds in {ALL: run.seconds, **(parts or {})}.items():
            self.seconds.setdefault((*name, part), []).append(seconds)

    def median(self, *name: str) -> str:
        """Of what was timed, or why there is none."""
        if name[:-1] in self.failures:
            return self.failures[name[:-1]]
        taken = self.seconds.get(name)
        return f"{statistics.median(taken):.2f}" if taken else ""

    def all(self, *name: str) -> str:
        return " ".join(f"{seconds:.2f}" for seconds in self.seconds.get(name, ()))

    def met(self, goal: float | None, *name: str) -> str:
        """Whether the median is below the goal, in a word; "" where there is none."""
        taken = self.seconds.get(name)
        if goal is None:
            return ""
        met = taken and name[:-1] not in self.failures and statistics.median(taken) < goal
        return "yes" if met else "no"


def start_rows(chosen: Sequence[Start], absent: Mapping[str, str], times: Times) -> list[list[str]]:
    rows = []
    for start in chosen:
        if start.name in absent:
            rows.append([start.name, f"absent: {absent[start.name]}", "", "", ""])
            continue
        name = (start.name, ALL)
        goal = "" if start.goal is None else f"{start.goal:g}"
        met = times.met(start.goal, *name)
        rows.append([start.name, times.median(*name), times.all(*name), goal, met])
    return rows


def part_rows(
    what: str, kinds: Sequence[str], names: Sequence[str], times: Times
) -> list[list[str]]:
    """A row for each part, a column for each way in which it was timed."""
    return [
        [
            name,
            *(times.median(what, kind, name) for kind in kinds),
            "; ".join(f"{kind} {times.all(what, kind, name) or '-'}" for kind in kinds),
        ]
        for name in names
    ]
