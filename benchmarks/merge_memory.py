"""`benchmarks.merge memory`: folds versus copies, the exact threshold, and whole merges.

Child processes measure; JAX does not run in this process, where it would hold accelerator memory.
"""

import itertools
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks import tables
from benchmarks.contenders import Served
from benchmarks.flags import PeersFlags
from benchmarks.machine import ask, describe
from benchmarks.serving import Facts
from benchmarks.tables import Output, label, table
from magmax_jax.merging import rules

KEPT = 0.2
"""The share of entries above the exact threshold."""


@dataclass(frozen=True)
class Memory(PeersFlags):
    """Times merging in memory, on the accelerator if JAX finds one, else on the CPU."""

    sizes: tuple[Literal["vit-b16", "vit-l14", "small", "tiny"], ...] = ("vit-b16", "vit-l14")
    """CLIP image towers, 86.2 and 304.0 M parameters; the others are for trials."""
    tasks: tuple[int, ...] = (2, 8, 20, 50)
    """How many models are merged."""
    rules: tuple[str, ...] = ("max_magnitude", "average", "ties", "iso_c", "tsv_m", "opcm")
    """Rules of whole merges; any of magmax_jax.merging.rules that needs only the models."""
    numbers: tuple[int, ...] = (60_000_000, 150_000_000)
    """How many numbers the threshold is found in."""
    only: tuple[Literal["folds", "threshold", "merges"], ...] = ("folds", "threshold", "merges")
    """What to measure. Without folds, whole merges cannot be compared with a copy."""
    at_most: float = 120.0
    """Maximum seconds for a merge, and for its repeats together; a merge expected to take longer,
    extrapolating from fewer tasks or a smaller tower, is not run. It is killed after three times
    that plus a minute."""
    memory_limit: float | None = None
    """GB; merges that do not fit are not tried (default: 0.9 of the device or machine memory)."""


def run(settings: Memory) -> None:
    """Prints the tables, and writes them.

    Raises:
      UserError: there is no such rule.
    """
    for name in settings.rules:
        rules.options(name)
    device = ask()
    limit = settings.memory_limit * 1e9 if settings.memory_limit else 0.9 * device.memory_bytes
    facts = device.facts | {
        "models": "image towers, float32, blocks stacked",
        "repeats": str(settings.repeats),
        "limits": f"{limit / 1e9:.1f} GB and {settings.at_most:g} s a merge",
    }
    output = Output(settings.output, describe(settings.peers) | facts)
    copies: dict[str, float] = {}
    if "folds" in settings.only:
        for size in settings.sizes:
            copies[size] = show_folds(size, settings.repeats, output)
    if "threshold" in settings.only:
        show_thresholds(settings, output)
    if "merges" in settings.only:
        done: list[Served] = []
        for size in settings.sizes:
            cells = [
                whole_merge(size, rule, tasks)
                for rule in settings.rules
                for tasks in sorted(settings.tasks)
            ]
            for cell in cells:
                measure(cell, settings, limit, done, output)
                done.append(cell)
            output.show(f"## Whole merges: {size}\n\n{rows(cells, copies.get(size))}")


def show_folds(size: str, repeats: int, output: Output) -> float | None:
    """Returns bytes per second of the fastest copy, None if the measurement failed."""
    folds = Served(
        name="folds", labels={"size": size}, function="benchmarks.ours.merging:folds",
        settings={"size": size, "repeats": repeats},
    )  # fmt: skip
    with folds:
        if folds.call():
            output.called(folds)
    output.show(f"## One more model: {size}")
    if folds.failure:
        output.show(folds.failure)
        return None

    def rate(timing: Facts) -> float:
        return timing["moved"] / statistics.median(timing["seconds"])

    timings = folds.calls[0]["timings"]
    fastest = max((timing for timing in timings if timing["copies"]), key=rate)
    columns = {
        "": lambda t: t["name"] + (", the reference" if t is fastest else ""),
        "milliseconds": lambda t: f"{1e3 * statistics.median(t['seconds']):.3g}",
        "MB moved": lambda t: f"{t['moved'] / 1e6:.0f}",
        "GB/s": lambda t: f"{rate(t) / 1e9:.1f}",
        "share": lambda t: f"{100 * rate(t) / rate(fastest):.0f} %",
    }
    output.show(table({}, columns, timings))
    return rate(fastest)


def show_thresholds(settings: Memory, output: Output) -> None:
    """Ours and torch's on the same numbers, in turns.

    Raises:
      AssertionError: torch finds a different threshold.
    """
    ended = []
    for n in settings.numbers:
        numbers = np.random.default_rng(n).standard_normal(n, np.float32)
        with tempfile.NamedTemporaryFile(suffix=".npy") as file:
            np.save(file, numbers)
            file.flush()
            shared = {"settings": {"file": file.name, "k": n - int(KEPT * n)}}
            shared["labels"] = {"numbers": n}
            pair = [
                Served(name="ours", function="benchmarks.ours.merging:threshold", **shared),
                Served(
                    name="torch", function="benchmarks.peers.torch_device:threshold", needs="torch",
                    python=settings.peers, **shared,
                ),
            ]  # fmt: skip
            output.measure(pair, settings.repeats)
        values = {one.facts["found"] for one in pair if not one.failure}
        assert len(values) <= 1, f"of {n} numbers torch and we find {values}"
        ended += pair
    ours = {one.labels["numbers"]: one.median() for one in ended[::2] if not one.failure}
    columns = {
        "seconds": tables.median(".4f"),
        "on": lambda one: one.facts["device"],
        "times ours": lambda one: tables.ratio(one.median(), ours.get(one.labels["numbers"])),
    }
    labels = {"": tables.name, "numbers": lambda one: f"{one.labels['numbers']:,}"}
    output.show(f"## The exact global threshold\n\n{table(labels, columns, ended)}")


def whole_merge(size: str, rule: str, tasks: int) -> Served:
    asked = {"size": size, "rule": rule, "tasks": tasks}
    return Served(name=rule, labels=asked, function="benchmarks.ours.merging:whole", settings=asked)


def measure(
    cell: Served, settings: Memory, memory: float, done: Sequence[Served], output: Output
) -> None:
    """Measures a whole merge, unless it is `refused`.

    The first call compiles and is not counted, unless it takes over a third of `at_most`: then
    compilation is a small part of it, and it is the only call.
    """
    cell.limit = 60 + 3 * settings.at_most
    with cell:
        cell.failure = cell.failure or refused(cell, settings.at_most, memory, done)
        if cell.call():
            (first,) = cell.seconds
            cell.facts["compiling"] = first > settings.at_most / 3
            if not cell.facts["compiling"]:
                cell.calls.clear()
                while len(cell.calls) < settings.repeats and cell.call():
                    output.called(cell)
                    if first + sum(cell.seconds) > settings.at_most:
                        break
    output.ended(cell)


def refused(cell: Served, at_most: float, memory: float, done: Sequence[Served]) -> str | None:
    """Why it is not run: a sentence, or None.

    Args:
      cell: prepared, so that its sizes are known.
      at_most, memory: limits in seconds and bytes.
      done: earlier merges; a merge is expected to take at least as long per byte as those of the
        same rule.
    """
    held, moved = cell.facts["held"], cell.facts["moved"]
    if held > memory:
        return f"does not fit: {held / 1e9:.1f} GB of {memory / 1e9:.1f}"
    same = [one for one in done if one.name == cell.name and "moved" in one.facts]
    ended = [one for one in same if (one.failure or "").startswith(">")]
    if any(one.facts["moved"] <= moved for one in ended):
        return "not run: a smaller merge already took too long"
    times = [one.median() * moved / one.facts["moved"] for one in same if not one.failure]
    if max(times, default=0.0) > at_most:
        return f"not run: {max(times):.0f} s by extrapolation, more than {at_most:g}"
    return None


def rows(cells: Sequence[Served], copy: float | None) -> str:
    """The table for one size.

    Args:
      cells: by rule, with increasing numbers of tasks.
      copy: bytes per second of the fastest copy, if known.
    """
    pairs = itertools.pairwise(cell for cell in cells if not cell.failure)
    fewer = {id(b): a for a, b in pairs if a.name == b.name}

    def rate(one: Served) -> float:
        return one.facts["moved"] / one.median()

    def one_more(one: Served) -> str:
        if (less := fewer.get(id(one))) is None:
            return ""
        tasks = one.labels["tasks"] - less.labels["tasks"]
        return f"{(one.median() - less.median()) / tasks:.4g}"

    columns = {
        "seconds": tables.median(".4g"),
        "runs": lambda one: "1, compiling" if one.facts["compiling"] else str(len(one.calls)),
        "of which folds": lambda one: f"{one.median('folds'):.4g}",
        "one more task": one_more,
        "GB moved": lambda one: f"{one.facts['moved'] / 1e9:.2f}",
        "GB/s": lambda one: f"{rate(one) / 1e9:.2f}",
        "share of a copy": lambda one: f"{100 * rate(one) / copy:.3g} %" if copy else "",
        "peak memory": lambda one: f"{one.facts['peak'] / 1e9:.2f} GB",
        "state": lambda one: f"{one.facts['state'] / 1e9:.3f} GB",
    }
    return table({"": tables.name, "tasks": label("tasks")}, columns, cells)
