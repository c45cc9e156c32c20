"""Progress of runs: `magmax watch RUN [RUN ...]`."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import tyro
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from magmax_jax.cli.command import Command
from magmax_jax.cli.run_status import RunFollower, Status
from magmax_jax.errors import MAGMAX, Program, UserError, harmless
from magmax_jax.evaluation.history import History
from magmax_jax.evaluation.metrics import last_accuracy
from magmax_jax.registry import COMMANDS
from magmax_jax.report.style import title_of
from magmax_jax.runs.directory import run_directories

QUIET = 300
"""Seconds without a new line after which a run may have stopped."""


@dataclass(frozen=True)
class Watch:
    """Shows the progress of runs. It reads only their directories, so they may run on another
    machine with a shared disk. Ends when all are finished; stopping it does not affect them."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Runs, or folders that contain runs at any depth."""
    every: float = 2.0
    """Seconds between updates."""
    once: bool = False
    """Print the progress once and exit; the default if the output is not a terminal."""
    wait: bool = False
    """Wait for folders and runs that do not exist yet."""


class Watcher:
    """Follows the runs in some folders, including runs that appear later."""

    def __init__(self, folders: Sequence[Path]):
        self._folders = folders
        self._followers: dict[Path, RunFollower] = {}

    def look(self, now: float) -> list[Status]:
        """Progress of every run that exists at `now`, in seconds since the epoch."""
        found = dict.fromkeys(run for folder in self._folders for run in run_directories(folder))
        self._followers = {run: self._followers.get(run) or RunFollower(run) for run in found}
        return [follower.look(now) for follower in self._followers.values()]

    def is_over(self, runs: Sequence[Status], now: float) -> bool:
        """Whether all runs are finished. In a folder of runs, another may be about to start."""
        alone = {run.path for run in runs} >= set(self._folders)
        return bool(runs) and all(
            run.state == "finished" and (alone or now - run.written > QUIET) for run in runs
        )


def show(runs: Sequence[Status], now: float) -> RenderableType:
    """A line for each run; for a single run also the latest accuracies of every model."""
    if not runs:
        return "waiting for a run to begin"
    table = _table("run", "state", "task", "step", "left", "loss", "best")
    for run in runs:
        going_on = run.state not in ("finished", "diverged")
        silence = now - run.written if going_on else 0.0
        best = max((h.overall[h.learned] for h in run.agnostic.values()), default=None)
        table.add_row(
            harmless(str(run.path)),
            run.state + (f", silent for {_time(silence)}" if silence > QUIET else ""),
            f"{run.task}/{run.tasks or '?'}",
            f"{run.step}/{run.steps or '?'}",
            "" if run.seconds_left is None else _time(run.seconds_left),
            "" if run.loss is None else f"{run.loss:.3f}",
            "" if best is None else f"{best:.1%}",
        )
    if len(runs) > 1 or not runs[0].agnostic:
        return table
    shown = {"agnostic": runs[0].agnostic} | ({"aware": runs[0].aware} if runs[0].aware else {})
    models = _table("model", "after task", *shown)
    for label, history in runs[0].agnostic.items():
        accuracies = (_accuracy(found.get(label)) for found in shown.values())
        models.add_row(title_of(label), str(history.learned), *accuracies)
    note = "accuracy on all test images: agnostic, among all classes"
    note += "; aware, among the task's own" if runs[0].aware else ""
    return Group(table, "", models, note)


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(first, overflow="fold")
    for column in others:
        table.add_column(column, justify="right", overflow="fold")
    return table


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _accuracy(history: History | None) -> str:
    found = history and last_accuracy(history, weighted=True)
    return "" if found is None else f"{found:.1%}"


def follow(watcher: Watcher, every: float, console: Console) -> None:
    """Shows the runs until they finish or Ctrl-C is pressed, then leaves the last state visible.

    The terminal's alternate screen does not flicker, and resizing it leaves no artefacts.
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


def main(argv: list[str], program: Program = MAGMAX) -> None:
    """Shows the runs that the command line names."""
    options = tyro.cli(Watch, args=argv, prog=program.line("watch"))
    if not options.runs:
        raise UserError("no RUN is given: name runs, or folders that contain some")
    if not options.every > 0:
        raise UserError(f"--every is {options.every}: it must be a number of seconds above 0")
    console = Console(highlight=False, markup=False, emoji=False)
    watcher, now = Watcher(options.runs), time.time()
    runs = watcher.look(now)
    for folder in options.runs if not options.wait else ():
        if not folder.is_dir():
            raise UserError(
                f"{folder}: there is no such folder; name another, or wait for it with --wait"
            )
    if not runs and not options.wait:
        where = ", ".join(map(str, options.runs))
        raise UserError(
            f"{where}: there is no run yet; name another folder, or wait for one with --wait"
        )
    if options.once or not console.is_terminal or console.is_dumb_terminal:
        console.print(show(runs, now))
    else:
        follow(watcher, options.every, console)


COMMANDS.register("watch", Command("Shows how far runs are and what their models can do.", main))
