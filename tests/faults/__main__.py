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
from tests.faults.shim import FAULTS, applies
from tests.faults.trial import Trial, prepared, tried


@dataclass(frozen=True)
class Arguments:
    hours: float = 1.0
    """After which no further fault is tried."""
    commands: tuple[str, ...] = tuple(COMMANDS)
    faults: tuple[str, ...] = FAULTS
    every: int = 1
    """Tries every n-th write,"""
    first: int = 1
    """from this one on."""
    within: str = ""
    """Tries only writes of which a caller's file has this in its path, such as orbax."""


def main() -> int:
    chosen = tyro.cli(Arguments)
    end = time.monotonic() + 3600 * chosen.hours
    counts: dict[str, Counter[str]] = {name: Counter() for name in chosen.commands}
    with tempfile.TemporaryDirectory() as scratch:
        for name, tally in counts.items():
            if time.monotonic() > end:
                break
            ready = prepared(COMMANDS[name], Path(scratch))
            wanted = [at for at, files in enumerate(ready.callers, 1) if chosen.within in files]
            print(f"{name}: {len(wanted)} writes", flush=True)
            for at in wanted[chosen.first - 1 :: chosen.every]:
                for fault in chosen.faults:
                    if time.monotonic() > end or not applies(fault, ready.writes[at - 1]):
                        continue
                    found: Trial = tried(ready, at, fault)
                    tally[fault] += found.struck
                    tally["wrong"] += bool(found.wrong)
                    if found.wrong:
                        print(f"{name}: {fault} at {at}: {found.wrong}", flush=True)
            tried_here = sum(tally[fault] for fault in FAULTS)
            print(f"{name}: {tried_here} faults, {tally['wrong']} wrong", flush=True)
        os.chdir("/")
    columns = [*FAULTS, "wrong"]
    print(f"| command | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    for name, tally in counts.items():
        print(f"| {name} | {' | '.join(str(tally[column]) for column in columns)} |")
    return int(any(tally["wrong"] for tally in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
