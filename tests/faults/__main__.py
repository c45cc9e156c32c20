"""Makes every write of each command fail once: `python -m tests.faults [--hours 1]`.

Prints what went wrong, and a table of faults by command; exit code 1 if anything did.
"""

import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import tyro

from tests.faults.commands import COMMANDS
from tests.faults.shim import FAULTS
from tests.faults.trial import Trial, prepared, tried


@dataclass(frozen=True)
class Arguments:
    hours: float = 1.0
    """After which no further fault is tried."""
    commands: tuple[str, ...] = tuple(COMMANDS)
    faults: tuple[str, ...] = FAULTS
    every: int = 1
    """Tries every n-th write."""


def main() -> int:
    chosen = tyro.cli(Arguments)
    end = time.monotonic() + 3600 * chosen.hours
    counts: dict[str, Counter[str]] = {}
    for name in chosen.commands:
        counts[name] = Counter()
        with tempfile.TemporaryDirectory() as scratch:
            ready = prepared(COMMANDS[name], Path(scratch))
            print(f"{name}: {ready.writes} writes", flush=True)
            for at in range(1, ready.writes + 1, chosen.every):
                for fault in chosen.faults:
                    if time.monotonic() > end:
                        break
                    found: Trial = tried(ready, at, fault)
                    counts[name][fault] += 1
                    counts[name]["wrong"] += bool(found.wrong)
                    if found.wrong:
                        print(f"{name}: {fault} at {at}: {found.wrong}", flush=True)
            os.chdir("/")
    columns = [*FAULTS, "wrong"]
    print(f"| command | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    for name, found in counts.items():
        print(f"| {name} | {' | '.join(str(found[column]) for column in columns)} |")
    return int(any(found["wrong"] for found in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
