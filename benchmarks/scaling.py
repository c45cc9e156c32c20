"""Weak scaling: steps on 1 to 8 devices, and what their programs move.

python -m benchmarks.scaling --output scaling.md
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks import tables
from benchmarks.collectives import Collective, summed
from benchmarks.contenders import Served, take_turns
from benchmarks.flags import Flags, command
from benchmarks.machine import ask, describe
from benchmarks.serving import Facts
from benchmarks.tables import Output, markdown, table
from benchmarks.virtual_devices import virtual_devices
from magmax_jax.errors import UserError

Size = Literal["vit-l14", "vit-b16", "small", "tiny"]
MOVED = ["program", "compiled for", "data x fsdp", "times", "among", "MB", "MB sent", "kind"]


@dataclass(frozen=True)
class Settings(Flags):
    """Times training steps over meshes of devices, and reads what the library's programs move.

    If there are fewer accelerators than a mesh needs, all devices are virtual."""

    size: Size = "small"
    """CLIP whose training step is timed."""
    mesh: tuple[str, ...] = ("1x1", "2x1", "4x1", "8x1", "1x2", "1x4", "1x8", "2x2", "2x4")
    """DATAxFSDP each; 1x1 is the reference."""
    batch_size: int = 4
    """Images a device."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Computation dtype of the timed step."""
    compiled: tuple[Size, ...] = ("vit-b16", "vit-l14")
    """CLIPs whose training steps are compiled in bfloat16 for 32 images per device, not run."""
    devices: int = 8
    """Number of devices for which programs are compiled."""
    topology: str | None = None
    """Topology of TPUs that need not be present, e.g. v5e:2x4: also reads their compiler's
    programs, which takes minutes each; libtpu must be installed."""


def parse_mesh(text: str) -> tuple[int, int]:
    """(data, fsdp).

    Raises:
      UserError: it is not DATAxFSDP.
    """
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise UserError(f"--mesh: {text!r} is not DATAxFSDP, e.g. 2x4")
    return int(match[1]), int(match[2])


def contender(settings: Settings, mesh: tuple[int, int], virtual: bool, **more: Any) -> Served:
    """A process with as many devices as the mesh needs: accelerators, or parts of this CPU."""
    data, fsdp = mesh
    given = os.environ.get("XLA_FLAGS", "").split()
    asked = {"size": settings.size, "dtype": settings.dtype, "batch_size": settings.batch_size}
    return Served(
        name=f"{data} x {fsdp}", function="benchmarks.ours.meshes:prepare",
        labels={"devices": data * fsdp, "batch_size": settings.batch_size},
        variables=virtual_devices(data * fsdp, *given) if virtual else {},
        settings=asked | {"data": data, "fsdp": fsdp} | more,
    )  # fmt: skip


def timing_table(timed: Sequence[Served]) -> str:
    """A row for each mesh; the first has one device."""

    def rate(one: Served) -> float:
        return one.labels["batch_size"] * one.labels["devices"] / one.median()

    def times_alone(one: Served) -> float:
        return rate(one) / rate(timed[0]) if timed[0].calls else float("nan")

    def shared(one: Served) -> str:
        return f"{times_alone(one):.2f}" if one.facts["platform"] == "cpu" else ""

    columns = {
        "ms a step": lambda one: f"{1e3 * one.median():.1f}",
        "images/s": lambda one: f"{rate(one):.1f}",
        "efficiency": lambda one: f"{times_alone(one) / one.labels['devices']:.2f}",
        "of one device's": shared,
    }
    labels = {"data x fsdp": tables.name, "devices": tables.label("devices")}
    return table(labels, columns, timed)


def moved_rows(mesh: str, program: Facts) -> Iterable[list[str]]:
    """A row for each kind of collective and group in a program; a single row if it has none or
    could not be compiled."""
    name = program["name"] + (", in 2 parts" if "accumulate" in program else "")
    start = [f"{name}, {program['size']}", program["compiler"], mesh]
    moved = program.get("collectives", ())
    for one in summed(Collective(**each) for each in moved):
        sizes = (f"{n / 1e6:,.2f}" if n >= 1e4 else f"{n / 1e6:.6f}" for n in one[3:])
        yield [*start, str(one.times), str(one.group), *sizes, one.kind]
    if not moved:
        yield [*start, "0", "", "0", "0", program.get("failure", "none")]


def read(settings: Settings, output: Output) -> list[list[str]]:
    """The rows of all programs that can be compiled, all of one mesh in one process."""
    n, rows = settings.devices, []
    large = {"name": "training", "dtype": "bfloat16", "batch_size": 32}
    small = {"dtype": "float32", "batch_size": 2, "size": settings.size}
    models = [large | {"size": size} for size in settings.compiled]
    others = [{"name": "training", "accumulate": 2}, {"name": "evaluation"}, {"name": "fold"}]
    here = models + [small | other for other in others]
    for topology in dict.fromkeys((None, settings.topology)):
        for mesh in ((n, 1), (1, n)):
            asked = {"programs": models if topology else here, "topology": topology}
            one = contender(settings, mesh, True, **asked)
            with tempfile.TemporaryDirectory() as folder:  # evaluation writes its program there
                one.variables["JAX_ENABLE_COMPILATION_CACHE"] = "false"
                one.variables["XLA_FLAGS"] += f" --xla_dump_to={folder}"
                one.variables["XLA_FLAGS"] += " --xla_dump_hlo_module_re=.*eval_step.*"
                take_turns([one], 0)
            if one.failure:
                output.show(f"Nothing compiled over {one.name}: {one.failure}")
            for program in one.facts.get("programs", ()):
                output.record({"mesh": one.name, "topology": topology} | program)
                rows += moved_rows(one.name, program)
    return rows


def run(settings: Settings) -> None:
    """Prints the tables, and writes them.

    Raises:
      UserError: a mesh is not valid.
    """
    meshes = {parse_mesh(text) for text in settings.mesh} | {(1, 1)}
    meshes = sorted(meshes, key=lambda mesh: (mesh[0] * mesh[1], mesh[1]))
    step = f"{settings.size}, {settings.dtype}, {settings.batch_size} images per device"
    description = describe() | {"step": step, "repeats": str(settings.repeats)}
    output = Output(settings.output, description)
    needed = max(data * fsdp for data, fsdp in meshes)
    device = ask()
    virtual = device.platform == "cpu" or device.count < needed
    timed = [contender(settings, mesh, virtual) for mesh in meshes]
    output.measure(timed, settings.repeats)
    where = f"{device.count} x {device.kind}"
    if virtual:
        where = f"virtual parts of this CPU, for meshes need {needed} devices and there is {where}"
    output.show(f"## Weak scaling, measured\n\n- device: {where}")
    output.show(timing_table(timed))
    output.show("## What a program moves, read from its HLO")
    output.show(markdown(MOVED, read(settings, output)))
    output.show(
        "MB: of the whole that is reduced or gathered, in one run of the program. MB sent: by each "
        f"device, by rings. On {settings.devices} devices."
    )


main = command(Settings, run, "benchmarks.scaling", __doc__)

if __name__ == "__main__":
    sys.exit(main())
