"""Free memory of a host or of a container, and what programs print."""

from magmax_jax.devices.machine import Machine, Memory, installed
from tests.devices.machines import machine, smi

HOST = {"proc/meminfo": "MemTotal:       16000 kB\nMemFree: 1 kB\nMemAvailable:    8000 kB\n"}


def cgroup(used: str, limit: str) -> dict[str, str]:
    return {"sys/fs/cgroup/memory.current": used, "sys/fs/cgroup/memory.max": limit}


def test_the_memory_of_a_container_is_what_its_limit_leaves(tmp_path):
    assert machine(tmp_path / "a", HOST).memory() == Memory(8_192_000, 16_384_000)
    held = machine(tmp_path / "b", HOST | cgroup("3000000\n", "5000000\n"))
    assert held.memory() == Memory(2_000_000, 5_000_000)
    unlimited = machine(tmp_path / "c", HOST | cgroup("3000000\n", "max\n"))
    assert unlimited.memory() == Memory(8_192_000, 16_384_000)
    assert machine(tmp_path / "d").memory() is None


def test_this_machine_reports_its_memory():
    memory = Machine().memory()
    assert memory is None or 0 < memory.free <= memory.total


def test_a_missing_or_failing_program_prints_nothing(tmp_path):
    one = smi(tmp_path, driver="1.2")
    assert one.output("nvidia-smi", "driver_version") == "1.2\n"
    assert one.output("no-such-program") == ""
    (tmp_path / "bin" / "nvidia-smi").write_text("#!/bin/sh\necho 1\nexit 9\n")
    assert one.output("nvidia-smi") == ""


def test_packages_are_found_without_importing_them():
    assert set(installed(["numpy", "no-such-package"])) == {"numpy"}
