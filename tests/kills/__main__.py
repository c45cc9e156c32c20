"""Kills every subject at random moments: `python -m tests.kills --number 200`.

Prints every kill after which something was wrong, and a table; exit code 1 if there was any.
"""

import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from tests.kills.processes import import_everything
from tests.kills.subjects import SUBJECTS
from tests.kills.trial import trial, undisturbed


@dataclass(frozen=True)
class Arguments:
    number: int = 200
    """Kills, divided equally among the subjects."""
    only: tuple[str, ...] = tuple(SUBJECTS)
    seed: int = 0
    hours: float = 24.0
    """After which no further directory is begun."""


def main() -> int:
    chosen = tyro.cli(Arguments)
    end = time.monotonic() + 3600 * chosen.hours
    import_everything()
    lines, bad = [], 0
    for name in chosen.only:
        share = -(-chosen.number // len(chosen.only))
        killed: Counter[tuple[int, ...]] = Counter()
        directories = wrong = 0
        with tempfile.TemporaryDirectory() as scratch:
            began = time.monotonic()
            alone = undisturbed(SUBJECTS[name], Path(scratch))
            ready = time.monotonic() - began
            print(
                f"{name}: {alone.seconds:.1f} s, {alone.digest[:16]} (ready in {ready:.0f} s)",
                flush=True,
            )
            random = np.random.default_rng(chosen.seed)
            for kills in trial(SUBJECTS[name], alone, Path(scratch), random):
                directories += 1
                killed.update(kill.victims for kill in kills)
                said = kills[-1].wrong or "the same"
                moments = ", ".join(
                    f"{'+'.join(map(str, kill.victims))} after {kill.after:.1f} s" for kill in kills
                )
                print(f"{name}: {moments}: {said}", flush=True)
                wrong += bool(kills[-1].wrong)
                if killed.total() >= share or time.monotonic() > end:
                    break
        for victims in SUBJECTS[name].victims:
            which = f", process {' and '.join(map(str, victims))}" if len(killed) > 1 else ""
            lines.append(f"| {name}{which} | {killed[victims]} |")
        lines[-1] += f" {directories} | {wrong} |"
        bad += wrong
    print("| subject | kills | directories | wrong |\n|---|---:|---:|---:|")
    print("\n".join(line if line.count("|") == 5 else f"{line} | |" for line in lines))
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
