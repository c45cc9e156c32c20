"""Tries mutants of every file kind that is read: `python -m tests.mutants --number 10000`.

Prints every fault with the seed that reproduces it, and a table; exit code 1 on any fault.
"""

import sys
from collections import Counter
from dataclasses import dataclass

import tyro

from tests.mutants.apart import outcomes
from tests.mutants.kinds import KINDS
from tests.mutants.trial import GOOD, table


@dataclass(frozen=True)
class Arguments:
    number: int = 10_000
    """Total number of mutants over all kinds; kinds whose mutants take longer get fewer."""
    seed: int = 0
    """Seed of the first mutant."""
    kinds: tuple[str, ...] = tuple(KINDS)


def main() -> int:
    chosen = tyro.cli(Arguments)
    shares = {name: 1 / KINDS[name].cost for name in chosen.kinds}
    counts: dict[str, Counter[str]] = {}
    for name, share in shares.items():
        counts[name] = Counter()
        each = max(1, round(chosen.number * share / sum(shares.values())))
        for seed, outcome in outcomes(name, chosen.seed, chosen.seed + each):
            counts[name][outcome.what] += 1
            if outcome.what not in GOOD:
                print(f"{name}, seed {seed}: {outcome.what}: {outcome.why}", flush=True)
        print(f"{name}: {each} mutants", file=sys.stderr, flush=True)
    print(table(counts))
    return int(any(what not in GOOD for found in counts.values() for what in found))


if __name__ == "__main__":
    sys.exit(main())
