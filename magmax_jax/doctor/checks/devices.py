"""What JAX computes on, and accelerators that it misses."""

from collections import Counter
from collections.abc import Iterator

from magmax_jax.devices.accelerators import unused
from magmax_jax.devices.machine import Machine
from magmax_jax.doctor.check import Check, Finding
from magmax_jax.doctor.jax_devices import start
from magmax_jax.errors import counted, first_line
from magmax_jax.registry import CHECKS


def look(machine: Machine | None = None) -> Iterator[Finding]:
    """The kinds of devices that JAX has, and the accelerators that it lacks."""
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
    for what, remedy in unused({device.platform for device in found}, machine):
        yield Finding(f"JAX has no backend for {what}", "broken", remedy)


CHECKS.register("devices", Check("Devices", look))
