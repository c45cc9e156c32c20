"""How far runs are: `python -m experiments.watch RUN [RUN ...]`."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from magmax_jax.cli.watching import Contents, Follower, Snapshot, overview, screen, snapshot
from magmax_jax.cli.watching.screen import QUIET
from magmax_jax.errors import UserError
from magmax_jax.runs.directory import run_directories


@dataclass(frozen=True)
class Watch:
    """Shows how far runs are, from their directories alone, also of runs on another machine whose
    disk is shared. Ends when they are finished; ending it earlier does nothing to them."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Runs, or folders that hold some at any depth: these have a line each."""
    every: float = 2.0
    """Seconds between two looks."""
    once: bool = False
    """Print how it stands and end, as is done where the output is no terminal."""
    wait: bool = False
    """Wait for folders and runs that are not there yet."""


class Watcher:
    """Follows the runs in some folders, those too that appear later."""

    def __init__(self, folders: Sequence[Path]):
        self._folders = folders
        self._followers: dict[Path, Follower] = {}
        self._seen: dict[Path, tuple[Contents, Snapshot]] = {}

    def look(self, now: float) -> list[Snapshot]:
        """Where every run stands that is there now."""
        found = dict.fromkeys(run for folder in self._folders for run in run_directories(folder))
        self._followers = {run: self._followers.get(run) or Follower(run) for run in found}
        for run, follower in self._followers.items():
            contents = follower.look(now)
            if run not in self._seen or self._seen[run][0] != contents:
                self._seen[run] = contents, snapshot(contents)
        return [self._seen[run][1] for run in found]

    def is_over(self, runs: Sequence[Snapshot], now: float) -> bool:
        """Whether all is finished. In a folder of runs the next one may be about to start."""
        alone = {run.path for run in runs} >= set(self._folders)
        return bool(runs) and all(
            run.state == "finished" and (alone or now - (run.written or 0) > QUIET) for run in runs
        )


def show(runs: Sequence[Snapshot], now: float) -> RenderableType:
    """One run in full, several with a line each."""
    if not runs:
        return Text("waiting for a run to begin")
    return screen(runs[0], now) if len(runs) == 1 else overview(runs, now)


def check(folders: Sequence[Path], runs: Sequence[Snapshot]) -> None:
    """Raises a UserError if a folder is not there, or none holds a run."""
    for folder in folders:
        if not folder.is_dir():
            raise UserError(
                f"{folder}: there is no such folder; give a run's, or --wait until it is there"
            )
    if not runs:
        where = ", ".join(map(str, folders))
        raise UserError(
            f"{where}: no run is there yet; give the folder of one, or --wait until it begins"
        )


def follow(watcher: Watcher, every: float, console: Console) -> None:
    """Shows the runs until they are finished or Ctrl-C is pressed, and then leaves the last look.

    On the terminal's other screen nothing flickers, and a change of its size leaves no remains.
    """
    shown: RenderableType = Group()
    with (
        suppress(KeyboardInterrupt),
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            now = time.time()
            runs = watcher.look(now)
            shown = show(runs, now)
            live.update(shown, refresh=True)
            if watcher.is_over(runs, now):
                break
            time.sleep(every)
    console.print(shown)


def main(argv: list[str]) -> None:
    """Shows what the command line says."""
    options = tyro.cli(Watch, args=argv, prog="python -m experiments.watch")
    if not options.runs:
        raise UserError("no RUN is given: name runs, or folders that hold some")
    if not options.every > 0:
        raise UserError(f"--every is {options.every}: it is a number of seconds above 0")
    console = Console(highlight=False)
    watcher = Watcher(options.runs)
    now = time.time()
    runs = watcher.look(now)
    if not options.wait:
        check(options.runs, runs)
    if options.once or not console.is_terminal or console.is_dumb_terminal:
        console.print(show(runs, now))
    else:
        follow(watcher, options.every, console)
