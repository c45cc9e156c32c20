"""What JAX computes on: asked of a process of its own, so that who asks takes no memory of it.

python -m benchmarks.device
"""

import json
import os
import subprocess
import sys
from typing import NamedTuple

from benchmarks.turns import ROOT, environment
from magmax_jax.errors import UserError


class Device(NamedTuple):
    """The devices of one kind that a process of JAX sees.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      kind: the first one's name.
      count: how many there are.
      memory_bytes: that JAX may take of the first one; of a CPU, the machine's memory.
    """

    platform: str
    kind: str
    count: int
    memory_bytes: int


def here() -> Device:
    """This process's, which from then on holds them."""
    import jax

    first = jax.devices()[0]
    memory = (first.memory_stats() or {}).get("bytes_limit")
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Device(first.platform, first.device_kind, jax.device_count(), memory or machine)


def ask(python: str = sys.executable) -> Device:
    """What a process of `python` sees, which has ended when this returns.

    Raises:
      UserError: JAX finds no device there, or is not installed.
    """
    shown = subprocess.run(
        [python, "-m", "benchmarks.device"],
        capture_output=True, text=True, cwd=ROOT, env=environment(),
    )  # fmt: skip
    if shown.returncode:
        said = shown.stderr.strip().splitlines() or ["it ended without a word"]
        raise UserError(f"JAX of {python} finds no device: {said[-1]}")
    return Device(**json.loads(shown.stdout))


if __name__ == "__main__":
    print(json.dumps(here()._asdict()))
