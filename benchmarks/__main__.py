"""Runs every benchmark, one after another, with all tables in one folder.

python -m benchmarks --peers PYTHON --output results
"""

import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders import ROOT, environment
from benchmarks.flags import command, matching
from magmax_jax.errors import UserError

TINY = "--repeats 1 --size tiny"
TRIALS = {
    "train": f"{TINY} --batch-sizes 2 --limit-sides 64",
    "evaluate": f"{TINY} --images 8 --batch-size 4 --tasks 2 --workers 1 --peak-sides 64",
    "fisher": f"{TINY} --batch-size 2",
    "merge memory": "--repeats 1 --sizes tiny --tasks 2 --rules max_magnitude --numbers 5000",
    "merge files": f"{TINY} --models 2 --only 'ours: max_magnitude' 'limit: *'",
    "mergekit_recipes": f"{TINY} --models 2 --only 'ours: *'",
    "scaling": f"{TINY} --mesh 2x1 --batch-size 2 --compiled tiny --devices 2",
    "startup": "--repeats 1 --run 'quickstart --help' --only 'ours: import*'",
    "input": "--repeats 1 --source cached --small 100 --seconds 0.01",
    "long_runs": "--repeats 1 --tasks 2 --evaluate last --train 1 --test 1",
}
"""Every benchmark in execution order, with its flags for a trial."""
ALONE = {"fisher", "scaling", "input", "long_runs"}
"""Benchmarks without peers."""


@dataclass(frozen=True)
class Settings:
    """Runs every benchmark with its defaults for this machine, or its accelerator."""

    output: Path
    """Folder for each benchmark's table, records of every call, and log."""
    peers: Path = Path(sys.executable)
    """The python of the peers' environment (requirements-peers.txt)."""
    only: tuple[str, ...] = ("*",)
    """Shell patterns of benchmark names: train, evaluate, merge-memory, ..."""
    trial: bool = False
    """Use the smallest models, once: checks that everything runs here, not how fast it is."""


def flags(name: str, settings: Settings) -> list[str]:
    """All arguments after `python -m benchmarks.MODULE`."""
    found = [*name.split()[1:], "--output", str(tables(name, settings))]
    found += [] if name in ALONE else ["--peers", str(settings.peers.absolute())]
    return found + (shlex.split(TRIALS[name]) if settings.trial else [])


def tables(name: str, settings: Settings) -> Path:
    return (settings.output / f"{name.replace(' ', '-')}.md").absolute()


def run(settings: Settings) -> None:
    """Runs them all, continuing after a failure.

    Raises:
      UserError: no benchmark has such a name, or some have failed; the message names them.
    """
    chosen = matching(TRIALS, settings.only, lambda name: name.replace(" ", "-"))
    settings.output.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in chosen:
        words = [sys.executable, "-m", f"benchmarks.{name.split()[0]}", *flags(name, settings)]
        log, start = tables(name, settings).with_suffix(".log"), time.monotonic()
        print(f"{name}: {log.with_suffix('.md')}", end="", flush=True)
        with log.open("w") as file:
            ended = subprocess.run(words, stdout=file, stderr=file, cwd=ROOT, env=environment())
        print(f", {time.monotonic() - start:.0f} s", flush=True)
        if ended.returncode:
            failed.append(f"{name} (see {log})")
    if failed:
        raise UserError(f"failed: {', '.join(failed)}")


main = command(Settings, run, "benchmarks", __doc__)

if __name__ == "__main__":
    sys.exit(main())
