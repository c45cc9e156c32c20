"""Accelerators that a machine has, and what to do if JAX cannot use them."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from magmax_jax.devices.machine import Machine, installed
from magmax_jax.errors import counted
from magmax_jax.packages import install
from magmax_jax.registry import ACCELERATORS


class Visible(NamedTuple):
    """Accelerators of one kind in a machine.

    Attributes:
      number: of them; 0 if only the kind is known.
      extra: the extra that installs JAX for them; "" if there is none.
      facts: such as "driver 550.54", "" if nothing is known.
      obstacle: why no extra helps and what to do, "" if one does.
    """

    number: int
    extra: str
    facts: str = ""
    obstacle: str = ""


@dataclass(frozen=True)
class Accelerator:
    """A kind of accelerator.

    Attributes:
      title: "NVIDIA GPU".
      platforms: JAX's names for its platform.
      plugins: packages with JAX's backend for it.
      same_version: whether a plugin works only with the jaxlib of its own version.
      look: finds those of a machine without JAX; None if it has none, or hides them.
    """

    title: str
    platforms: Collection[str]
    plugins: Sequence[str]
    look: Callable[[Machine], Visible | None]
    same_version: bool = True


def unused(
    platforms: Collection[str],
    machine: Machine | None = None,
    versions: Callable[[Sequence[str]], Mapping[str, str]] = installed,
) -> list[tuple[str, str]]:
    """Accelerators that the machine shows and JAX cannot use.

    Nothing is reported if JAX_PLATFORMS chooses other platforms.

    Args:
      platforms: of JAX's devices, such as {"cpu"}.
      machine: this one if not given.
      versions: the installed ones of some packages.

    Returns:
      for each kind, a clause that says what is there, and what to do about it.
    """
    machine = machine or Machine()
    chosen = {name for name in machine.environ.get("JAX_PLATFORMS", "").split(",") if name}
    found = []
    for kind in ACCELERATORS.values():
        hidden = chosen and not chosen & {*kind.platforms}
        seen = None if hidden or {*kind.platforms} & {*platforms} else kind.look(machine)
        if seen is None:
            continue
        what = counted(seen.number, kind.title) if seen.number else kind.title
        facts = f" ({seen.facts})" if seen.facts else ""
        found.append((f"{what}{facts}", _remedy(kind, seen, versions)))
    return found


def _remedy(
    kind: Accelerator, seen: Visible, versions: Callable[[Sequence[str]], Mapping[str, str]]
) -> str:
    if seen.obstacle:
        return seen.obstacle
    plugins = versions(kind.plugins)
    if not plugins:
        return install(seen.extra)
    jax = versions(["jaxlib"]).get("jaxlib", "")
    [(name, version), *_] = plugins.items()
    if kind.same_version and version != jax:
        return f"pip install --upgrade 'jax[{seen.extra}]=={jax}'"
    show = f"import jax; jax.devices({next(iter(kind.platforms))!r})"
    return f'{name} is installed but does not start; python -c "{show}" shows why'


_OLDEST = {"cuda13": 580, "cuda12": 525}
"""The oldest driver for each extra, best first (JAX's installation guide)."""


def _nvidia(machine: Machine) -> Visible | None:
    """Also in WSL, where only nvidia-smi shows GPUs."""
    hidden = machine.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and not [gpu for gpu in hidden.split(",") if gpu not in ("", "-1")]:
        return None
    gpus = machine.files("proc/driver/nvidia/gpus/*") or machine.files("dev/nvidia[0-9]*")
    count = len(gpus)
    version = re.search(r"Module\s+(?:for \w+\s+)?(\d[\d.]*)", machine.text(_DRIVER))
    driver = version[1] if version else ""
    if not count or not driver:
        query = ("--query-gpu=driver_version", "--format=csv,noheader")
        lines = machine.output("nvidia-smi", *query).split()
        count, driver = count or len(lines), driver or next(iter(lines), "")
    if not count:
        return None
    if not driver:
        return Visible(count, "cuda12")
    major = int(driver.partition(".")[0])
    extra = next((name for name, oldest in _OLDEST.items() if major >= oldest), "")
    oldest = min(_OLDEST.values())
    obstacle = "" if extra else f"install driver {oldest} or newer, then {install('cuda12')}"
    return Visible(count, extra, f"driver {driver}", obstacle)


_DRIVER = "proc/driver/nvidia/version"

ACCELERATORS.register(
    "nvidia",
    Accelerator("NVIDIA GPU", ("cuda", "gpu"), ("jax-cuda12-plugin", "jax-cuda13-plugin"), _nvidia),
)


def _tpu(machine: Machine) -> Visible | None:
    """TPU VMs set variables; older generations also have devices of their own."""
    count = len(machine.files("dev/accel[0-9]*"))
    kind = machine.environ.get("TPU_ACCELERATOR_TYPE", "")
    if not (count or kind or machine.environ.get("TPU_NAME")):
        return None
    return Visible(count, "tpu", kind)


ACCELERATORS.register("tpu", Accelerator("TPU", ("tpu",), ("libtpu",), _tpu, False))
