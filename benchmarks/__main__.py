"""Every benchmark, one after another, their tables in one folder.

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
    "merge memory": "--repeats 1 --sizes tiny --tasks 2 --rules max_magnitude --numbers 5000",
    "merge files": f"{TINY} --models 2 --only 'ours: max_magnitude' 'limit: *'",
    "scaling": f"{TINY} --mesh 2x1 --batch-size 2 --compiled tiny --devices 2",
    "startup": "--repeats 1 --run 'quickstart --help' --only 'ours: import*'",
    "input": "--repeats 1 --source cached --small 100 --seconds 0.01",
    "long_runs": "--repeats 1 --tasks 2 --evaluate last --train 1 --test 1",
}
"""Every benchmark in the order in which they are run, with the flags of a trial."""
ALONE = {"scaling", "input", "long_runs"}
"""Benchmarks without peers."""


@dataclass(frozen=True)
class Settings:
    """Runs every benchmark with its defaults for this machine, or its accelerator."""

    output: Path
    """Folder for a table, a file of every single call and a log of each."""
    peers: Path = Path(sys.executable)
    """The python of the peers' environment (requirements-peers.txt)."""
    only: tuple[str, ...] = ("*",)
    """Shell patterns of their names: train, evaluate, merge-memory, ..."""
    trial: bool = False
    """With the smallest models, once: whether all of it runs here, not how fast anything is."""


def flags(name: str, settings: Settings) -> list[str]:
    """All that follows `python -m benchmarks.` and the module."""
    found = [*name.split()[1:], "--output", str(tables(name, settings))]
    found += [] if name in ALONE else ["--peers", str(settings.peers.absolute())]
    return found + (shlex.split(TRIALS[name]) if settings.trial else [])


def tables(name: str, settings: Settings) -> Path:
    return (settings.output / f"{name.replace(' ', '-')}.md").absolute()


def run(settings: Settings) -> None:
    """Goes on after one that fails.

    Raises:
      UserError: no benchmark has such a name, or some have failed, which are named.
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
