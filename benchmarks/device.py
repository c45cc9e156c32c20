"""What JAX computes on: asked of a process of its own, so that who asks takes no memory of it.

python -m benchmarks.device
"""

import json
import os
import subprocess
import sys
from typing import NamedTuple

from benchmarks.turns import ROOT, environment, resident_peak
from magmax_jax.errors import UserError


class Device(NamedTuple):
    """The devices of one kind that a process of JAX sees.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      kind: the first one's name.
      count: how many there are.
      memory_bytes: that JAX may take of the first one; of a CPU, the machine's memory.
      runtime: the version of what drives them, as of CUDA; "" where it has none.
    """

    platform: str
    kind: str
    count: int
    memory_bytes: int
    runtime: str = ""

    @property
    def facts(self) -> dict[str, str]:
        """To be told above a table."""
        many = f"{self.count} x " if self.count > 1 else ""
        memory = f"{self.memory_bytes / 1e9:.1f} GB"
        told = {"device": f"{many}{self.kind} ({self.platform}), {memory}"}
        return told | ({"runtime": self.runtime} if self.runtime else {})


def here() -> Device:
    """This process's, which from then on holds them."""
    import jax

    first = jax.devices()[0]
    memory = (first.memory_stats() or {}).get("bytes_limit")
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    runtime = " ".join(first.client.platform_version.split())
    told = "" if runtime == first.platform else runtime
    total = memory or machine
    return Device(first.platform, first.device_kind, jax.device_count(), total, told)


def peak_bytes() -> int:
    """Of an accelerator's memory the most that was in use so far, on a CPU of this process's."""
    import jax

    found = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return found or resident_peak()


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
