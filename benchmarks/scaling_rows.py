"""The tables of weak scaling: what was timed, what was read of programs, what follows from it."""

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import jax

from benchmarks.collectives import Collective, summed
from benchmarks.cost_model import Accelerator, Assumptions, among, as_bfloat16, predict
from benchmarks.shapes import SIZES
from benchmarks.turns import Contestant
from benchmarks.workloads import abstract_tower

TIMED = ["data x fsdp", "devices", "ms a step", "images/s", "efficiency", "of one device's"]
MOVED = ["program", "compiled for", "data x fsdp", "times", "among", "MB", "MB sent", "kind"]
PREDICTED = [
    "a device", "over", "devices", "compute, ms", "communication, ms",
    "efficiency, nothing hidden", "blocks' hidden", "memory",
]  # fmt: skip


@dataclass(frozen=True)
class Program:
    """A compiled program.

    Attributes:
      compiler: of the device for which it was compiled.
      mesh: data, fsdp.
      found: its collectives.
    """

    size: str
    name: str
    compiler: str
    mesh: tuple[int, int]
    found: tuple[Collective, ...]


def timing_rows(timed: Sequence[Contestant]) -> list[list[str]]:
    """A row for each mesh; the first is of one device."""
    rows = []
    alone = _rate(timed[0]) if timed[0].seconds else None
    for one in timed:
        n = _devices(one)
        if one.failure is not None or alone is None:
            rows.append([one.name, str(n), "", "", "", one.failure or "no 1 x 1 to compare with"])
            continue
        rate = _rate(one)
        shared = f"{rate / alone:.2f}" if one.facts["platform"] == "cpu" else ""
        milliseconds = f"{1e3 * statistics.median(one.seconds):.1f}"
        rows.append(
            [one.name, str(n), milliseconds, f"{rate:.1f}", f"{rate / alone / n:.2f}", shared]
        )
    return rows


def _devices(one: Contestant) -> int:
    return one.settings["data"] * one.settings["fsdp"]


def _rate(one: Contestant) -> float:
    """Images a second."""
    return one.settings["batch_size"] * _devices(one) / statistics.median(one.seconds)


def collective_rows(programs: Sequence[Program]) -> list[list[str]]:
    """A row for each kind of collective and group in each program, one for a program of none."""
    rows = []
    for one in programs:
        start = [f"{one.name}, {one.size}", one.compiler, "{} x {}".format(*one.mesh)]
        sums = summed(one.found)
        rows += [
            [*start, str(s.times), str(s.group), _megabytes(s.nbytes), _megabytes(s.wire), s.kind]
            for s in sums
        ]
        if not sums:
            rows.append([*start, "0", "", "0", "0", "none"])
    return rows


def _megabytes(nbytes: float) -> str:
    return f"{nbytes / 1e6:,.2f}" if nbytes >= 1e4 else f"{nbytes / 1e6:.6f}"


def prediction_rows(
    accelerator: Accelerator,
    programs: Sequence[Program],
    numbers: Sequence[int],
    batches: Sequence[int],
    assumed: Assumptions,
) -> list[list[str]]:
    """A row for each model, way of dividing the work, batch and number of devices.

    Of a step that was compiled for a CPU and for the accelerator, the accelerator's own is taken.
    """
    own = accelerator.compiler
    steps = {
        (one.size, one.mesh): one
        for one in sorted(programs, key=lambda one: one.compiler == own)
        if one.name == "training" and one.compiler in ("cpu", own)
    }
    rows = []
    for one, b, n in itertools.product(steps.values(), batches, numbers):
        split = one.mesh[1] > 1
        found = among(as_bfloat16(one.found) if one.compiler == "cpu" else one.found, n)
        made = predict(
            SIZES[one.size].model, b, _parameters(one.size), found, accelerator, assumed,
            pieces=n if split else 1,
        )  # fmt: skip
        plain, hidden = made.efficiency
        rows.append(
            [
                f"{one.size}, {b} images", "fsdp" if split else "data", str(n),
                f"{1e3 * made.compute:.1f}", f"{1e3 * made.communication:.2f}",
                f"{plain:.1%}", f"{hidden:.1%}",
                f"{made.nbytes / 1e9:.1f} GB" + ("" if made.fits else ", does not fit"),
            ]
        )  # fmt: skip
    return rows


def _parameters(size: str) -> int:
    """Of the image tower."""
    _, theta = abstract_tower(SIZES[size].model, "float32")
    return sum(leaf.size for leaf in jax.tree.leaves(theta))
