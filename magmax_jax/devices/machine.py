"""What a machine shows about its hardware: files, variables, programs and installed packages."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import NamedTuple


class Memory(NamedTuple):
    """Bytes of memory.

    Attributes:
      free: that a new process can use.
      total: installed, or the limit of this container.
    """

    free: int
    total: int

    def __str__(self) -> str:
        return f"{self.free / 1e9:.1f} of {self.total / 1e9:.1f} GB free"


@dataclass(frozen=True)
class Machine:
    """Where facts about the hardware come from; tests pass one of their own.

    Attributes:
      root: the directory that holds `dev`, `proc` and `sys`.
      environ: environment variables.
    """

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def files(self, pattern: str) -> list[Path]:
        """Files by a pattern relative to the root, such as "dev/nvidia[0-9]*"."""
        return sorted(self.root.glob(pattern))

    def text(self, path: str) -> str:
        """The content of a file, "" if it cannot be read."""
        try:
            return (self.root / path).read_text(errors="replace")
        except OSError:
            return ""

    def output(self, *command: str) -> str:
        """What a program prints; "" if it is not on PATH, fails, or takes over two seconds."""
        program = shutil.which(command[0], path=self.environ.get("PATH", ""))
        if program is None:
            return ""
        try:
            done = subprocess.run(
                [program, *command[1:]], capture_output=True, text=True, timeout=2, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return ""
        return done.stdout

    def memory(self) -> Memory | None:
        """The host's memory, or what is left of this container's limit; None if not known."""
        found = dict(re.findall(r"^(\w+):\s+(\d+) kB$", self.text("proc/meminfo"), re.MULTILINE))
        if not {"MemAvailable", "MemTotal"} <= set(found):
            return None
        memory = Memory(1024 * int(found["MemAvailable"]), 1024 * int(found["MemTotal"]))
        for used, limit in _CGROUPS:
            texts = self.text(used).strip(), self.text(limit).strip()
            if all(text.isdigit() for text in texts) and int(texts[1]) < memory.total:
                left = max(int(texts[1]) - int(texts[0]), 0)
                memory = Memory(min(memory.free, left), int(texts[1]))
        return memory


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS and Windows do not bind processes to cores


_CGROUPS = (
    ("sys/fs/cgroup/memory.current", "sys/fs/cgroup/memory.max"),
    ("sys/fs/cgroup/memory/memory.usage_in_bytes", "sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Files of a container's used bytes and its limit, in both versions of Linux's control groups."""


def installed(packages: Sequence[str]) -> dict[str, str]:
    """The versions of those packages that are installed, found without importing them."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
