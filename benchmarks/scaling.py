"""Weak scaling: steps over 1 to 8 devices, what their programs move, and what that predicts.

python -m benchmarks.scaling --output scaling.md
"""

import itertools
import re
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import tyro
from flax import nnx

from benchmarks.collectives import Collective, summed
from benchmarks.cost_model import (
    ACCELERATORS,
    Accelerator,
    Assumptions,
    among,
    as_bfloat16,
    predict,
)
from benchmarks.machine import OURS, machine, versions
from benchmarks.output import Output
from benchmarks.shapes import SIZES
from benchmarks.tables import facts, markdown
from benchmarks.turns import Contestant, environment, take_turns
from magmax_jax.errors import UserError, exit_code
from magmax_jax.models import CLIP

Size = Literal["vit-l14", "vit-b16", "small", "tiny"]


@dataclass(frozen=True)
class Settings:
    """Times training steps over meshes of devices, reads what they move, predicts larger ones."""

    size: Size = "small"
    """CLIP whose training step is timed."""
    mesh: tuple[str, ...] = ("1x1", "2x1", "4x1", "8x1", "1x2", "1x4", "1x8", "2x2", "2x4")
    """DATAxFSDP each; 1x1 is what the others are compared with."""
    batch_size: int = 4
    """Images a device."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the timed step's computation."""
    repeats: int = 5
    """Of every step, whose median is told."""
    cpu: bool = False
    """Take virtual devices that share this machine's cores, also where there are accelerators."""
    compiled: tuple[Size, ...] = ("vit-b16", "vit-l14")
    """CLIPs whose programs are compiled in bfloat16, not run, and for which scaling is predicted."""
    devices: int = 8
    """Devices for which they are compiled."""
    topology: str | None = None
    """Of a TPU that need not be here, as v5e:2x4: its compiler's programs are read besides, which
    takes minutes each; libtpu must be installed."""
    predicted: tuple[int, ...] = (8, 64, 256)
    """Numbers of devices."""
    predicted_batch: tuple[int, ...] = (128, 32)
    """Images a device; programs are compiled for the last one."""
    mfu: float = Assumptions.mfu
    """Share of its peak that a device is taken to reach by itself."""
    reached: float = Assumptions.reached
    """Share of their bytes a second that links are taken to carry."""
    latency: float = 1e6 * Assumptions.latency
    """Microseconds that a collective is taken to last for each doubling of its devices."""
    output: Path | None = None
    """File for the tables; every single step and collective goes into a .jsonl beside it."""


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


def parse_mesh(text: str) -> tuple[int, int]:
    """(data, fsdp).

    Raises:
      UserError: it is not DATAxFSDP.
    """
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise UserError(f"--mesh: {text!r} is not DATAxFSDP, as 2x4")
    return int(match[1]), int(match[2])


def contestant(settings: Settings, mesh: tuple[int, int], cpu: bool, **more) -> Contestant:
    """A process with as many devices as the mesh has: accelerators, or parts of this CPU."""
    data, fsdp = mesh
    flag = f"--xla_force_host_platform_device_count={data * fsdp}"
    variables = environment(XLA_FLAGS=flag)
    if cpu:
        variables["JAX_PLATFORMS"] = "cpu"
    given = {
        "data": data, "fsdp": fsdp, "size": settings.size, "dtype": settings.dtype,
        "batch_size": settings.batch_size,
    }  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.meshes"]
    return Contestant(f"{data} x {fsdp}", command, given | more, variables)


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


def programs(settings: Settings, output: Output) -> Iterator[Program]:
    """Compiles them one process after another; those that fail are told."""
    n, batch_size = settings.devices, settings.predicted_batch[-1]
    meshes = [(n, 1), (1, n)]
    bfloat16 = {"dtype": "bfloat16", "batch_size": batch_size}
    asked = [
        (mesh, {"program": "training", "size": size} | bfloat16)
        for size, mesh in itertools.product(settings.compiled, meshes)
    ]
    small = {"size": settings.size, "batch_size": 2}
    for mesh in meshes:
        asked += [(mesh, small | {"program": name}) for name in ("evaluation", "fold")]
    asked.append((meshes[0], small | {"program": "training", "accumulate": 2}))
    if settings.topology:
        asked += [
            (mesh, given | {"topology": settings.topology})
            for mesh, given in asked
            if given.get("dtype")
        ]
    for mesh, given in asked:
        [one] = take_turns([contestant(settings, mesh, True, **given)], 0)
        name = given["program"] + (", in 2 parts" if "accumulate" in given else "")
        told = {"program": name, "mesh": mesh, "failure": one.failure}
        output.record(told | one.settings | one.facts)
        if one.failure:
            output.show(f"No {name} of {given['size']} over {one.name}: {one.failure}")
            continue
        found = tuple(Collective(**each) for each in one.facts["collectives"])
        yield Program(given["size"], name, one.facts["device"], mesh, found)


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
    settings: Settings, accelerator: Accelerator, programs: Sequence[Program]
) -> list[list[str]]:
    """A row for each model, batch, way of dividing the work and number of devices."""
    assumed = Assumptions(settings.mfu, settings.reached, settings.latency / 1e6)
    rows = []
    steps = {
        (one.size, one.mesh): one
        for one in sorted(programs, key=lambda one: one.compiler == accelerator.compiler)
        if one.name == "training" and one.compiler in ("cpu", accelerator.compiler)
    }  # of two, the accelerator's own is the last
    for (size, mesh), b in itertools.product(steps, settings.predicted_batch):
        config, one = SIZES[size].model, steps[size, mesh]
        found = as_bfloat16(one.found) if one.compiler == "cpu" else one.found
        for n in settings.predicted:
            pieces = n if mesh[1] > 1 else 1
            found_n = among(found, n)
            made = predict(config, b, _parameters(size), found_n, accelerator, assumed, pieces)
            plain, overlapped = made.efficiency
            memory = f"{made.nbytes / 1e9:.1f} GB" + ("" if made.fits else ", does not fit")
            rows.append(
                [
                    f"{size}, {b} images", "fsdp" if mesh[1] > 1 else "data", str(n),
                    f"{1e3 * made.compute:.1f}", f"{1e3 * made.communication:.2f}",
                    f"{plain:.1%}", f"{overlapped:.1%}", memory,
                ]
            )  # fmt: skip
    return rows


def _parameters(size: str) -> int:
    """Of the image tower."""
    clip = nnx.eval_shape(lambda: CLIP(SIZES[size].model, rngs=nnx.Rngs(0)))
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(clip.vision, nnx.Param)))


def run(settings: Settings) -> None:
    meshes = [parse_mesh(text) for text in settings.mesh]
    meshes = sorted(set(meshes) | {(1, 1)}, key=lambda mesh: (mesh[0] * mesh[1], mesh[1]))
    step = f"{settings.size}, {settings.dtype}, {settings.batch_size} images a device"
    found = ", ".join(f"{name} {version}" for name, version in versions(OURS).items())
    description = machine() | {"versions": found, "step": step, "repeats": str(settings.repeats)}
    output = Output(settings.output, description)

    def told(one: Contestant) -> None:
        if one.failure is None:
            output.record({"mesh": one.name, "seconds": one.seconds[-1]})

    timed = take_turns(
        [contestant(settings, mesh, settings.cpu) for mesh in meshes], settings.repeats, told
    )
    for one in timed:
        output.record({"mesh": one.name, "failure": one.failure, "facts": one.facts})
    device = timed[0].facts.get("device", "none")
    output.show("## Weak scaling, measured")
    output.show(facts({"device": f"{device}{_sharing(timed[0])}"}))
    columns = ["data x fsdp", "devices", "ms a step", "images/s", "efficiency", "of one device's"]
    output.show(markdown(columns, timing_rows(timed)))

    read = list(programs(settings, output))
    output.show("## What a program moves, read from its HLO")
    columns = ["program", "compiled for", "data x fsdp", "times", "among", "MB", "MB sent", "kind"]
    output.show(markdown(columns, collective_rows(read)))
    output.show(
        f"MB: of the whole that is reduced or gathered, in one run of the program. MB sent: by "
        f"each device, by rings. Of {settings.devices} devices."
    )
    assumed = Assumptions(settings.mfu, settings.reached, settings.latency / 1e6)
    for accelerator in ACCELERATORS:
        rows = prediction_rows(settings, accelerator, read)
        output.show(f"## {accelerator.name}: predicted, not measured")
        columns = ["a device", "over", "devices", "compute, ms", "communication, ms",
                   "efficiency, nothing hidden", "blocks' hidden", "memory"]  # fmt: skip
        output.show(markdown(columns, rows))
    output.show(f"Assumed: {assumed}.")


def _sharing(one: Contestant) -> str:
    virtual = one.facts.get("platform") == "cpu"
    return ", in virtual devices that share its cores" if virtual else ""


def main(argv: Sequence[str] | None = None) -> int:
    settings = tyro.cli(Settings, args=argv, prog="benchmarks.scaling", description=__doc__)
    return exit_code(lambda: run(settings))


if __name__ == "__main__":
    sys.exit(main())
