"""What the figures were measured on and with."""

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.measuring import last_line
from benchmarks.turns import environment
from magmax_jax.errors import UserError

PLUGINS = ("jax-cuda13-plugin", "jax-cuda12-plugin")
"""Told where they are."""
OURS = ("magmax_jax", "jax", "jaxlib", *PLUGINS, "flax", "optax", "numpy", "safetensors")
PEERS = ("torch", "fusion-bench", "mergekit", "transformers", "safetensors", "numpy")


class Needy(Protocol):
    """Who may need a module that is not there; None for who needs none."""

    name: str
    needs: str | None


def describe(peers: Path) -> dict[str, str]:
    """Machine, our versions, and those of the environment whose python is `peers`."""
    return machine() | {
        "ours": f"python {platform.python_version()}, {told_versions()}",
        "peers": peer_versions(peers),
    }


def machine() -> dict[str, str]:
    """Processor, cores that this process may use, memory and kernel."""
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in cpus if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory / 2**30:.1f} GiB",
        "system": f"{platform.system()} {platform.release()}",
    }


def peers_python(path: Path) -> Path:
    """The python of the peers' environment, absolute.

    Raises:
      UserError: it cannot be run.
    """
    # Not resolved: the link in an environment is what makes it that environment's python.
    python = path.absolute()
    if not (python.is_file() and os.access(python, os.X_OK)):
        raise UserError(f"--peers: {python} is no python that can be run: give that of the peers")
    return python


def told_versions(*more: str) -> str:
    """Of what is ours, and of other packages that it stands on."""
    return _said(versions((*OURS, *more)))


def versions(names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if name not in PLUGINS:
                found[name] = "from the working tree" if name == "magmax_jax" else "absent"
    return found


def peer_versions(python: Path) -> str:
    """Asked of the environment itself; with CUDA's where torch was built for it."""
    program = (  # torch's version is a file, which is read without importing torch
        "import importlib.metadata as m, importlib.util as u, json, os, platform, runpy, sys\n"
        "have = {d.metadata['Name'].lower(): d.version for d in m.distributions()}\n"
        "found = {n: have.get(n, 'absent') for n in sys.argv[1:]}\n"
        "spec = u.find_spec('torch')\n"
        "file = os.path.join(os.path.dirname(spec.origin), 'version.py') if spec else ''\n"
        "cuda = runpy.run_path(file).get('cuda') if os.path.exists(file) else None\n"
        "found['torch'] += f' (CUDA {cuda})' if cuda else ''\n"
        "print(json.dumps([platform.python_version(), found]))"
    )
    shown = subprocess.run(
        [str(python), "-c", program, *PEERS], capture_output=True, text=True, check=True
    )
    version, found = json.loads(shown.stdout)
    return f"python {version}, {_said(found)}"


def why_absent(python: Path, module: str) -> str | None:
    """The error with which a module's import ends there, None if it can be imported."""
    shown = subprocess.run(
        [str(python), "-c", f"import {module}"], capture_output=True, text=True, env=environment()
    )
    return (last_line(shown.stderr) or "it ended without a word") if shown.returncode else None


def absences(python: Path, field: Sequence[Needy]) -> dict[str, str]:
    """Why those are absent whose module cannot be imported there, by their name."""
    modules = {one.needs for one in field} - {None}
    reasons = {module: why_absent(python, module) for module in modules}
    return {one.name: why for one in field if (why := reasons.get(one.needs))}


def _said(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())
