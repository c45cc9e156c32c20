"""Weak scaling: steps over 1 to 8 devices, what their programs move, and what that predicts.

python -m benchmarks.scaling --output scaling.md
"""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from benchmarks import device
from benchmarks.choosing import check_positive
from benchmarks.collectives import Collective
from benchmarks.cost_model import ACCELERATORS, Assumptions
from benchmarks.machine import machine, told_versions
from benchmarks.output import Output
from benchmarks.scaling_rows import (
    MOVED,
    PREDICTED,
    TIMED,
    Program,
    collective_rows,
    prediction_rows,
    timing_rows,
)
from benchmarks.tables import facts, markdown
from benchmarks.turns import Contestant, environment, take_turns
from magmax_jax.errors import UserError, exit_code

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
    """Take virtual devices that share this machine's cores, also where there are accelerators.
    Where these are fewer than a mesh needs, all meshes are timed on such."""
    compiled: tuple[Size, ...] = ("vit-b16", "vit-l14")
    """CLIPs whose programs are compiled in bfloat16, not run, and whose scaling is predicted."""
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
    variables = environment(XLA_FLAGS=" ".join([os.environ.get("XLA_FLAGS", ""), flag]).strip())
    if cpu:
        variables["JAX_PLATFORMS"] = "cpu"
    given = {
        "data": data, "fsdp": fsdp, "size": settings.size, "dtype": settings.dtype,
        "batch_size": settings.batch_size,
    }  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.meshes"]
    return Contestant(f"{data} x {fsdp}", command, given | more, variables)


def programs(settings: Settings, output: Output) -> list[Program]:
    """Those that can be compiled, all of one mesh in one process; the others are told."""
    n = settings.devices
    large = {"dtype": "bfloat16", "batch_size": settings.predicted_batch[-1]}
    small = {"dtype": "float32", "batch_size": 2, "size": settings.size}
    models = [{"name": "training", "size": size} | large for size in settings.compiled]
    others = [
        small | {"name": "training", "accumulate": 2},
        small | {"name": "evaluation"},
        small | {"name": "fold"},
    ]
    read = []
    for topology in dict.fromkeys((None, settings.topology)):
        for mesh in ((n, 1), (1, n)):
            asked = {"programs": models if topology else models + others, "topology": topology}
            [one] = take_turns([contestant(settings, mesh, True, **asked)], 0)
            if one.failure:
                output.show(f"Nothing compiled over {one.name}: {one.failure}")
            for told in one.facts.get("programs", ()):
                output.record({"mesh": one.name, "topology": topology} | told)
                name = told["name"] + (", in 2 parts" if "accumulate" in told else "")
                if failure := told.get("failure"):
                    where = f"{told['size']} over {one.name}, {told['compiler']}"
                    output.show(f"No {name} of {where}: {failure}")
                else:
                    found = tuple(Collective(**each) for each in told["collectives"])
                    read.append(Program(told["size"], name, told["compiler"], mesh, found))
    return read


def run(settings: Settings) -> None:
    """Prints the tables, and writes them.

    Raises:
      UserError: a mesh is none, or a number is not positive.
    """
    check_positive(
        {
            "--batch-size": settings.batch_size,
            "--repeats": settings.repeats,
            "--devices": settings.devices,
            "--predicted": settings.predicted,
            "--predicted-batch": settings.predicted_batch,
        }
    )
    meshes = [parse_mesh(text) for text in settings.mesh]
    meshes = sorted(set(meshes) | {(1, 1)}, key=lambda mesh: (mesh[0] * mesh[1], mesh[1]))
    step = f"{settings.size}, {settings.dtype}, {settings.batch_size} images a device"
    found = told_versions()
    description = machine() | {"versions": found, "step": step, "repeats": str(settings.repeats)}
    output = Output(settings.output, description)

    def told(one: Contestant) -> None:
        if one.failure is None:
            output.record({"mesh": one.name, "seconds": one.seconds[-1]})

    needed = max(data * fsdp for data, fsdp in meshes)
    why = "" if settings.cpu else too_few(device.ask(), needed)
    timed = take_turns(
        [contestant(settings, mesh, settings.cpu or bool(why)) for mesh in meshes],
        settings.repeats,
        told,
    )
    for one in timed:
        output.record({"mesh": one.name, "failure": one.failure, "facts": one.facts})
    kind = timed[0].facts.get("device", "none")
    output.show("## Weak scaling, measured")
    output.show(facts({"device": f"{kind}{_sharing(timed[0])}{why}"}))
    output.show(markdown(TIMED, timing_rows(timed)))

    read = programs(settings, output)
    output.show("## What a program moves, read from its HLO")
    output.show(markdown(MOVED, collective_rows(read)))
    output.show(
        "MB: of the whole that is reduced or gathered, in one run of the program. MB sent: by each "
        f"device, by rings. On {settings.devices} devices."
    )
    assumed = Assumptions(settings.mfu, settings.reached, settings.latency / 1e6)
    for accelerator in ACCELERATORS:
        rows = prediction_rows(
            accelerator, read, settings.predicted, settings.predicted_batch, assumed
        )
        output.show(f"## {accelerator.name}: predicted, not measured")
        output.show(markdown(PREDICTED, rows))
        output.show(f"Of its data sheet: {accelerator}.")
    output.show(f"Assumed: {assumed}.")


def too_few(here: device.Device, needed: int) -> str:
    """Why no accelerator is timed, as the table tells it; "" where there are enough, or none."""
    if here.platform == "cpu" or here.count >= needed:
        return ""
    return f": meshes need {needed} devices, and of {here.kind} there are {here.count}"


def _sharing(one: Contestant) -> str:
    virtual = one.facts.get("platform") == "cpu"
    return ", in virtual devices that share its cores" if virtual else ""


def main(argv: Sequence[str] | None = None) -> int:
    settings = tyro.cli(Settings, args=argv, prog="benchmarks.scaling", description=__doc__)
    return exit_code(lambda: run(settings))


if __name__ == "__main__":
    sys.exit(main())
