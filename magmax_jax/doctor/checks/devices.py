"""What JAX computes on, and accelerators that it misses."""

from collections import Counter
from collections.abc import Iterator

from magmax_jax.devices.accelerators import unused
from magmax_jax.devices.machine import Machine, usable_cores
from magmax_jax.doctor.check import Check, Finding
from magmax_jax.doctor.jax_devices import start
from magmax_jax.errors import counted, first_line
from magmax_jax.registry import CHECKS

THREADS = 4
"""Threads for each virtual device below which JAX's pool may run out: 4 devices on 2 cores did."""


def look(machine: Machine | None = None) -> Iterator[Finding]:
    """The kinds of devices that JAX has, its threads, and the accelerators that it lacks."""
    machine = machine or Machine()
    try:
        found = start()
    except Exception as error:  # JAX's own: a backend does not start
        line = first_line(error)
        yield Finding(
            f"JAX does not start ({line})",
            "broken",
            "unset JAX_PLATFORMS, or install JAX again: pip install --force-reinstall jax",
        )
        found = []
    kinds = Counter((device.platform, device.device_kind) for device in found)
    for (platform, kind), number in kinds.items():
        called = counted(number, "device")
        same = kind.lower() == platform
        yield Finding(f"JAX computes on {called}: {platform if same else f'{kind} ({platform})'}")
    on_cpu = kinds["cpu", "cpu"]
    if on_cpu > 1 and (threads := pool_size(on_cpu, machine)) < THREADS * on_cpu:
        yield Finding(
            f"{on_cpu} virtual devices share {threads} threads: programs that wait for one another "
            "may take them all, and JAX then ends the process",
            "warning",
            f"export NPROC={2 * THREADS * on_cpu}",
        )
    for what, remedy in unused({device.platform for device in found}, machine):
        yield Finding(f"JAX has no backend for {what}", "broken", remedy)


def pool_size(devices: int, machine: Machine) -> int:
    """Threads that JAX starts for its CPU devices: NPROC, or one per core; at least one each."""
    given = machine.environ.get("NPROC", "")
    return max(int(given) if given.isdigit() else usable_cores(), devices)


CHECKS.register("devices", Check("Devices", look))
