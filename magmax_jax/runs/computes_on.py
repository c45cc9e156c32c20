"""The first line of a run: what it computes on, in which dtype, and what fits."""

from magmax_jax.devices.accelerators import unused
from magmax_jax.devices.machine import Machine, Memory
from magmax_jax.errors import counted
from magmax_jax.merging.task_vectors import tree_bytes
from magmax_jax.runs import state
from magmax_jax.runs.build import RunParts
from magmax_jax.runs.shared_pass import models_held


def computes_on(parts: RunParts, machine: Machine | None = None) -> list[str]:
    """That line, and notes on accelerators that are not used and on state that does not fit.

    If several processes run together, all must call this.

    Args:
      machine: this one if not given.
    """
    machine = machine or Machine()
    layout = parts.layout
    devices = layout.mesh.devices.flatten().tolist()
    largest = state.shapes(parts, len(parts.tasks), training=True)
    held = tree_bytes((largest, parts.theta_0)) // layout.mesh.shape["fsdp"]
    at_once = counted(models_held(parts.theta_0, layout), "model")
    local = layout.mesh.local_devices[0]
    on_host = local.platform == "cpu"
    if on_host:  # all of its devices share the host's memory
        held *= len(layout.mesh.local_devices)
    memory = machine.memory() if on_host else _memory_of(local)
    free = f", {memory}{'' if on_host or len(devices) == 1 else ' on each'}" if memory else ""
    lines = [
        f"computes on {len(devices)} x {local.device_kind} in {parts.config.model.dtype}{free}; "
        f"parameters, optimiser and merges take {held / 1e9:.2f} GB"
        f"{'' if on_host or len(devices) == 1 else ' on each'} beside a step's activations, and "
        f"{at_once} can be evaluated at once"
    ]
    for what, remedy in unused({device.platform for device in devices}, machine):
        lines.append(f"note: JAX has no backend for {what}: {remedy}")
    if memory and held > memory.free:
        lines.append(
            f"note: parameters, optimiser and merges need {held / 1e9:.1f} GB and "
            f"{memory.free / 1e9:.1f} GB are free: merge by fewer rules, use rules that stream, or "
            "shard over more devices with --mesh.fsdp"
        )
    return lines


def _memory_of(device: object) -> Memory | None:
    stats = getattr(device, "memory_stats", lambda: None)() or {}
    if "bytes_limit" not in stats:
        return None
    return Memory(stats["bytes_limit"] - stats.get("bytes_in_use", 0), stats["bytes_limit"])
