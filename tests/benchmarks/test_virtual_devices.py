"""Child processes with several CPU devices: the threads that JAX starts for them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.virtual_devices import THREADS, virtual_devices
from magmax_jax.devices.machine import Machine
from magmax_jax.doctor.checks import devices

PROGRAM = """
import os, jax
devices = jax.device_count()  # starts the threads
names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
print(devices, sum("XLAEigen" in name for name in names))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are listed on Linux only")
@pytest.mark.parametrize("few", [True, False])
def test_jax_starts_as_many_threads_as_the_doctor_says(few):
    variables = virtual_devices(3) | ({"NPROC": "2"} if few else {})
    shown = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True, text=True, env=os.environ | variables, check=True,
    )  # fmt: skip
    number, threads = map(int, shown.stdout.split())
    assert number == 3
    assert threads == (3 if few else 3 * THREADS)
    assert devices.pool_size(3, Machine(environ=variables)) == threads
