"""Several devices on one CPU: environment variables for a child process."""

THREADS = 8
"""Threads in JAX's pool per device; with one each, two programs at once can take them all."""


def virtual_devices(number: int, *flags: str) -> dict[str, str]:
    """Environment variables of a process whose JAX has `number` CPU devices.

    JAX starts one thread per core, and at least one per device; `NPROC` overrides the number of
    cores. Each device's part of a program takes a thread while it waits for the other parts. On few
    cores, programs dispatched together can take every thread while one part still needs one; JAX
    0.10.2 then ends the process after 40 seconds: "Termination timeout for `all gather`".

    Args:
      number: how many devices.
      flags: further ones for XLA_FLAGS.
    """
    devices = f"--xla_force_host_platform_device_count={number}"
    return {
        "JAX_PLATFORMS": "cpu",
        "NPROC": str(THREADS * number),
        "XLA_FLAGS": " ".join([*flags, devices]),
    }
