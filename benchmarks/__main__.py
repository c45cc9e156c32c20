"""Every benchmark, one after another, their tables in one folder.

python -m benchmarks --peers PYTHON --output results
"""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tyro

from benchmarks.choosing import matching
from benchmarks.turns import ROOT, environment
from magmax_jax.errors import UserError, exit_code


class Benchmark(NamedTuple):
    """A module of this package.

    Attributes:
      command: its name, and that of a part of it.
      peers: whether it takes `--peers`.
      trial: flags with which it takes seconds; their figures say nothing.
    """

    command: tuple[str, ...]
    peers: bool
    trial: str

    @property
    def name(self) -> str:
        return "-".join(self.command)


TINY = "--size tiny --repeats 1"
BENCHMARKS = [
    Benchmark(("train",), True, f"{TINY} --batch-sizes 2 --limit-sides 64"),
    Benchmark(("levers",), False, f"{TINY} --batch-size 2 --only unrolled"),
    Benchmark(("feeding",), False, f"{TINY} --batch-size 2 --steps 2 --sides 16"),
    Benchmark(
        ("evaluate",), True,
        f"{TINY} --images 8 --batch-size 4 --tasks 2 --grid 1 8 --workers 1 --peak-sides 64",
    ),
    Benchmark(
        ("merge", "memory"), True,
        "--sizes tiny --tasks 2 --rules max_magnitude --numbers 5000 --repeats 1",
    ),
    Benchmark(
        ("merge", "files"), True, f"{TINY} --models 2 --only 'ours: max_magnitude' 'limit: *'"
    ),
    Benchmark(
        ("scaling",), False,
        f"{TINY} --mesh 2x1 --batch-size 2 --compiled tiny --devices 2",
    ),
    Benchmark(
        ("startup",), True, "--repeats 1 --run '' --steps tiny --only 'ours: import*'"
    ),
    Benchmark(
        ("input",), False, "--source cached --repeats 1 --seconds 0.01 --batch-size 4"
    ),
]  # fmt: skip
"""In the order in which they are run."""


@dataclass(frozen=True)
class Settings:
    """Runs every benchmark with its defaults for this machine, or its accelerator."""

    output: Path
    """Folder for a table, a file of every single run and a log of each."""
    peers: Path = Path(sys.executable)
    """The python of the peers' environment (requirements-peers.txt)."""
    only: tuple[str, ...] = ("*",)
    """Shell patterns of their names: train, levers, merge-memory, ..."""
    trial: bool = False
    """With the smallest models, once: whether all of it runs here, not how fast anything is."""


def run(settings: Settings) -> None:
    """Goes on after one that fails.

    Raises:
      UserError: no benchmark has such a name, or some have failed, which are named.
    """
    chosen = matching(BENCHMARKS, settings.only)
    settings.output.mkdir(parents=True, exist_ok=True)
    failed = []
    for benchmark in chosen:
        tables = (settings.output / f"{benchmark.name}.md").absolute()
        log = tables.with_suffix(".log")
        command = [sys.executable, "-m", f"benchmarks.{benchmark.command[0]}"]
        command += [*benchmark.command[1:], "--output", str(tables)]
        command += ["--peers", str(settings.peers.absolute())] if benchmark.peers else []
        command += shlex.split(benchmark.trial) if settings.trial else []
        print(f"{benchmark.name}: {tables}", flush=True)
        with log.open("w") as file:
            ended = subprocess.run(
                command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env=environment()
            )
        if ended.returncode:
            failed.append(f"{benchmark.name} (see {log})")
    if failed:
        raise UserError(f"failed: {', '.join(failed)}")


def main(argv: Sequence[str] | None = None) -> int:
    settings = tyro.cli(Settings, args=argv, prog="benchmarks", description=__doc__)
    return exit_code(lambda: run(settings))


if __name__ == "__main__":
    sys.exit(main())
