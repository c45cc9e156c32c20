"""Runs mutants one after another against the reader of their kind."""

import random
import time
import tracemalloc
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from magmax_jax.errors import UserError
from tests.mutants.kinds import Kind

SECONDS = 10
SLACK = 48 << 20
"""Bytes that a reader may use beyond twice the valid file's: for modules that it imports."""


class Outcome(NamedTuple):
    """The outcome of a mutant.

    Attributes:
      what: "same bytes", "accepted" (and read correctly), "refused" (one sentence), or a
        fault: "traceback", "wrong", "slow", "memory".
      why: the fault's details, otherwise "".
    """

    what: str
    why: str = ""


GOOD = ("same bytes", "accepted", "refused")


def tried(kind: Kind, folder: Path, seed: int) -> Outcome:
    """Tries one mutant of a valid folder and restores the folder afterwards.

    Args:
      seed: seed of the mutation.
    """
    path = folder / kind.file
    original = path.read_bytes()
    mutant = kind.mutate(original, random.Random(seed))
    if mutant == original:
        return Outcome("same bytes")
    path.write_bytes(mutant)
    began = time.perf_counter()
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = kind.read(folder)
        peak = tracemalloc.get_traced_memory()[1]
        outcome = Outcome("accepted")
        if kind.agrees is not None and not kind.agrees(folder, found):
            outcome = Outcome("wrong", repr(found)[:200])
    except UserError as error:
        peak = tracemalloc.get_traced_memory()[1]
        text = str(error)
        outcome = Outcome("refused") if "\n" not in text else Outcome("traceback", text)
    except BaseException as error:
        peak = 0
        outcome = Outcome("traceback", f"{type(error).__name__}: {str(error)[:150]}")
    finally:
        tracemalloc.stop()
        path.write_bytes(original)
    seconds = time.perf_counter() - began
    if outcome.what in GOOD and seconds > SECONDS:
        return Outcome("slow", f"{seconds:.0f} s")
    if outcome.what in GOOD and peak > 2 * len(original) + SLACK:
        return Outcome("memory", f"{peak >> 20} MiB")
    return outcome


def table(counts: dict[str, Counter[str]]) -> str:
    """Counts of outcomes by kind, in Markdown."""
    columns = [*GOOD, "traceback", "wrong", "slow", "memory"]
    lines = [f"| kind | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for name, found in counts.items():
        lines.append(f"| {name} | {' | '.join(str(found[column]) for column in columns)} |")
    total = Counter[str]()
    for found in counts.values():
        total.update(found)
    lines.append(f"| all | {' | '.join(str(total[column]) for column in columns)} |")
    return "\n".join(lines)
