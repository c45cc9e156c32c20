"""Runs mutants one after another against the reader of their kind."""

import random
import resource
import shutil
import time
import tracemalloc
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from magmax_jax.errors import UserError
from tests.mutants.kind import Kind

SECONDS = 10
"""CPU time, which a busy machine does not change; `apart` ends what waits for nothing."""
SLACK = 48 << 20
"""Bytes that a reader may use beyond twice the valid folder's: for modules that it imports."""
NATIVE_SLACK = 160 << 20
"""The same for memory that C++ and XLA allocate, which includes compiled programs."""


class Outcome(NamedTuple):
    """The outcome of a mutant.

    Attributes:
      what: "same bytes", "accepted" (and read correctly), "refused" (one sentence), or a
        fault: "traceback", "wrong", "slow", "memory", and "crash" of a process.
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
    draw, honest = random.Random(seed), contents(folder)
    path = draw.choice(sorted(path for path in folder.glob(kind.files) if path.is_file()))
    mutant = kind.mutate(path.read_bytes(), draw)
    if mutant == path.read_bytes():
        return Outcome("same bytes")
    path.write_bytes(mutant)
    try:
        outcome, seconds, peak, native = _read(kind, folder)
    finally:
        _restore(folder, honest)
    file = path.relative_to(folder)
    before = 2 * sum(map(len, honest.values())) + kind.room
    if outcome.what in GOOD and seconds > SECONDS:
        outcome = Outcome("slow", f"{seconds:.0f} s of CPU time")
    elif outcome.what in GOOD and (peak > before + SLACK or native > before + NATIVE_SLACK):
        outcome = Outcome("memory", f"{max(peak, native) >> 20} MiB")
    return outcome if outcome.what in GOOD else Outcome(outcome.what, f"{file}: {outcome.why}")


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file in a folder, at any depth."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _read(kind: Kind, folder: Path) -> tuple[Outcome, float, int, int]:
    """The outcome, the CPU seconds taken, and the peak memory that Python and the process added."""
    began, resident = time.process_time(), _resident()
    peak = 0
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
    except BaseException as error:  # also a panic of Rust's, which is not an Exception
        outcome = Outcome("traceback", f"{type(error).__name__}: {str(error)[:150]}")
    finally:
        tracemalloc.stop()
    return outcome, time.process_time() - began, peak, _resident() - resident


def _resident() -> int:
    """The largest memory of this process so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _restore(folder: Path, honest: dict[Path, bytes]) -> None:
    kept = {parent for path in honest for parent in path.parents}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and path not in kept and any(path.rglob("*")):
            shutil.rmtree(path)
        elif path.is_file() and path not in honest:
            path.unlink()
    for path, content in honest.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_bytes() != content:
            path.write_bytes(content)


def table(counts: dict[str, Counter[str]]) -> str:
    """Counts of outcomes by kind, in Markdown."""
    columns = [*GOOD, "traceback", "wrong", "slow", "memory", "crash"]
    lines = [f"| kind | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for name, found in counts.items():
        lines.append(f"| {name} | {' | '.join(str(found[column]) for column in columns)} |")
    total = Counter[str]()
    for found in counts.values():
        total.update(found)
    lines.append(f"| all | {' | '.join(str(total[column]) for column in columns)} |")
    return "\n".join(lines)
