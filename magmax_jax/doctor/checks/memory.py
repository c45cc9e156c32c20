"""Free memory of this machine and of its devices."""

from collections.abc import Iterator

from magmax_jax.devices.machine import Machine, Memory
from magmax_jax.doctor.check import Check, Finding
from magmax_jax.doctor.jax_devices import devices
from magmax_jax.registry import CHECKS

LEAST = 2 * 2**30
"""Bytes below which even a small model may not fit."""


def look(machine: Machine | None = None) -> Iterator[Finding]:
    """The host's memory, then that of each device that reports it."""
    machine = machine or Machine()
    host = machine.memory()
    if host is None:
        yield Finding("this system does not report its free memory")
    else:
        yield _finding("host", host, "stop other programs, or use a machine with more memory")
    remedy = "stop other programs on this device: nvidia-smi lists them"
    cards = _cards(machine)
    if cards:
        yield from (_finding(name, memory, remedy) for name, memory in cards)
        return
    for device in devices():
        stats = device.memory_stats() or {}  # CPUs have none
        if limit := stats.get("bytes_limit"):
            free = limit - stats.get("bytes_in_use", 0)
            yield _finding(f"device {device.id}", Memory(free, limit), "stop other programs on it")


def _cards(machine: Machine) -> list[tuple[str, Memory]]:
    """NVIDIA's GPUs, including the memory that other processes use; none without nvidia-smi."""
    query = ("--query-gpu=index,memory.free,memory.total", "--format=csv,noheader,nounits")
    found = []
    for line in machine.output("nvidia-smi", *query).splitlines():
        index, *numbers = (word.strip() for word in line.split(","))
        if len(numbers) == 2 and all(number.isdigit() for number in numbers):  # else "[N/A]"
            free, total = (int(number) * 2**20 for number in numbers)
            found.append((f"GPU {index}", Memory(free, total)))
    return found


def _finding(name: str, memory: Memory, remedy: str) -> Finding:
    text = f"{name}: {memory}"
    return Finding(text, "warning", remedy) if memory.free < LEAST else Finding(text)


CHECKS.register("memory", Check("Memory", look))
