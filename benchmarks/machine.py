"""The machine and software that figures were measured with.

python -m benchmarks.machine prints what JAX computes on, as JSON.
"""

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks.contenders import ROOT, environment, last_line
from benchmarks.serving import resident_peak
from magmax_jax.devices.machine import usable_cores
from magmax_jax.errors import UserError

PLUGINS = ("jax-cuda13-plugin", "jax-cuda12-plugin")
"""Reported if installed."""
OURS = ("jax", "jaxlib", *PLUGINS, "flax", "optax", "numpy", "safetensors")
PEERS = ("torch", "fusion-bench", "mergekit", "transformers", "safetensors", "numpy")
PEER_VERSIONS = """
import importlib.metadata as m, importlib.util as u, json, os, platform, runpy, sys
have = {d.metadata["Name"].lower(): d.version for d in m.distributions()}
found = {n: have.get(n, "absent") for n in sys.argv[1:]}
spec = u.find_spec("torch")  # its version of CUDA is in a file that needs no import of torch
file = os.path.join(os.path.dirname(spec.origin), "version.py") if spec else ""
cuda = runpy.run_path(file).get("cuda") if os.path.exists(file) else None
found["torch"] += f" (CUDA {cuda})" if cuda else ""
print(json.dumps([platform.python_version(), found]))
"""
"""Run with the python of the peers' environment."""


class Device(NamedTuple):
    """The devices of one kind that a process of JAX sees.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      kind: the first one's name.
      memory_bytes: what JAX may use on the first one; for a CPU, the machine's memory.
    """

    platform: str
    kind: str
    count: int
    memory_bytes: int

    @property
    def facts(self) -> dict[str, str]:
        """For the head of a table."""
        many = f"{self.count} x " if self.count > 1 else ""
        memory = f"{self.memory_bytes / 1e9:.1f} GB"
        return {"device": f"{many}{self.kind} ({self.platform}), {memory}"}


def here() -> Device:
    """This process's device, which the process holds from then on."""
    import jax

    first = jax.devices()[0]
    limit = (first.memory_stats() or {}).get("bytes_limit")
    return Device(first.platform, first.device_kind, jax.device_count(), limit or memory())


def ask(python: str = sys.executable) -> Device:
    """The device seen by a separate `python` process, which has exited and has released its memory.

    Raises:
      UserError: JAX finds no device there, or is not installed.
    """
    command = [python, "-m", "benchmarks.machine"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment())
    if shown.returncode:
        raise UserError(f"JAX of {python} finds no device: {last_line(shown.stderr)}")
    return Device(**json.loads(shown.stdout))


def peak_bytes() -> int:
    """Peak memory use of the accelerator so far; on a CPU, that of this process."""
    import jax

    found = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return found or resident_peak()


def memory() -> int:
    """The machine's, bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def describe(peers: Path | None = None, *more: str, before: Path | None = None) -> dict[str, str]:
    """Processor, usable cores, memory, kernel, and versions.

    Args:
      peers: the python of the peers' environment, if they take part.
      before: the checkout of another version of this repository, if it takes part.
      more: packages of ours whose versions matter besides `OURS`.
    """
    names = re.findall(r"(?m)^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text())
    have = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
    ours = {n: have.get(n, "absent") for n in (*OURS, *more) if n in have or n not in PLUGINS}
    facts = {
        "processor": names[0] if names else platform.machine(),
        "cores": str(usable_cores()),
        "memory": f"{memory() / 2**30:.1f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "ours": f"python {platform.python_version()}, the working tree, {_listed(ours)}",
    }
    if before:
        command = ["git", "-C", str(before), "rev-parse", "--short", "HEAD"]
        shown = subprocess.run(command, capture_output=True, text=True)
        facts["before"] = shown.stdout.strip() or "a tree without a commit"
    if peers:
        command = [str(peers), "-c", PEER_VERSIONS, *PEERS]
        shown = subprocess.run(command, capture_output=True, text=True, check=True)
        version, found = json.loads(shown.stdout)
        facts["peers"] = f"python {version}, {_listed(found)}"
    return facts


def _listed(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


if __name__ == "__main__":
    print(json.dumps(here()._asdict()))
