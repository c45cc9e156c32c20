"""Tries mutants of every file kind that is read: `python -m tests.mutants --number 10000`.

Prints every fault with the seed that reproduces it, and a table; exit code 1 on any fault.
"""

import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import tyro

from tests.mutants.kinds import KINDS
from tests.mutants.trial import GOOD, table, tried


@dataclass(frozen=True)
class Arguments:
    number: int = 10_000
    """Total number of mutants over all kinds."""
    seed: int = 0
    """Seed of the first mutant."""
    kinds: tuple[str, ...] = tuple(KINDS)


def main() -> int:
    chosen = tyro.cli(Arguments)
    counts: dict[str, Counter[str]] = {}
    for name in chosen.kinds:
        kind = KINDS[name]
        counts[name] = Counter()
        with tempfile.TemporaryDirectory() as folder:
            kind.make(Path(folder))
            kind.read(Path(folder))  # imports what it needs
            each = -(-chosen.number // len(chosen.kinds))
            for seed in range(chosen.seed, chosen.seed + each):
                outcome = tried(kind, Path(folder), seed)
                counts[name][outcome.what] += 1
                if outcome.what not in GOOD:
                    print(f"{name}, seed {seed}: {outcome.what}: {outcome.why}", flush=True)
    print(table(counts))
    return int(any(what not in GOOD for found in counts.values() for what in found))


if __name__ == "__main__":
    sys.exit(main())
