"""Where runs stand, for people: what rich shows on a terminal, or prints into a file."""

import math
import os
from collections.abc import Sequence
from itertools import pairwise

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from magmax_jax.cli.watching.snapshot import Snapshot
from magmax_jax.report.style import title_of

QUIET = 300
"""Seconds without a line after which a run may have stopped."""
STYLES = {"finished": "green", "diverged": "red", "evaluating": "cyan", "training": "cyan"}
ORDER = ("diverged", "training", "evaluating", "starting", "finished")
"""Of runs in an overview: what a small terminal cuts off is what needs no eye on it."""


class Sparkline:
    """Numbers as a row of bars, from the lowest to the highest, as wide as its place.

    Where there are more numbers than places, each bar is the mean of its share of them.
    """

    BARS = "▁▂▃▄▅▆▇█"

    def __init__(self, numbers: Sequence[float]):
        self.numbers = [number for number in numbers if math.isfinite(number)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Segment("" if options.ascii_only else self.text(options.max_width))

    def text(self, width: int) -> str:
        count = min(width, len(self.numbers))
        edges = [i * len(self.numbers) // count for i in range(count + 1)] if count else []
        shares = [self.numbers[a:b] for a, b in pairwise(edges)]
        means = [sum(share) / len(share) for share in shares]
        low, high = min(means, default=0.0), max(means, default=0.0)
        heights = [(mean - low) / (high - low or 1.0) for mean in means]
        return "".join(self.BARS[round(height * (len(self.BARS) - 1))] for height in heights)


def screen(run: Snapshot, now: float) -> RenderableType:
    """One run: how far it is, how it learns, and what its models can do.

    Args:
      run: where it stands.
      now: seconds since the epoch.
    """
    parts: list[RenderableType] = [Text(str(run.path), style="bold")]
    if run.about:
        parts.append(Text(run.about, style="dim"))
    parts += [Text(_doing(run), style=STYLES.get(run.state, "")), _bars(run)]
    if run.losses and run.state != "finished":
        parts.append(_training(run))
    parts.append(_signs_of_life(run, now))
    if run.models:
        parts.append(_accuracies(run))
    return Group(*parts)


def overview(runs: Sequence[Snapshot], now: float) -> RenderableType:
    """Several runs: a line for each, those that go on first.

    Args:
      runs: where they stand.
      now: seconds since the epoch.
    """
    counts = [(state, sum(run.state == state for run in runs)) for state in ORDER]
    told = ", ".join(f"{count} {state}" for state, count in counts if count)
    folder = os.path.commonpath([run.path.absolute() for run in runs])
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("state")
    for column in ("task", "step", "best", "left"):
        table.add_column(column, justify="right", no_wrap=True)
    for run in sorted(runs, key=lambda run: ORDER.index(run.state)):
        state = "quiet" if _is_quiet(run, now) else run.state
        table.add_row(
            os.path.relpath(run.path.absolute(), folder),
            Text(state, style=STYLES.get(state, "yellow")),
            f"{run.task}/{run.tasks or '?'}",
            f"{run.step}/{run.steps}" if run.steps else f"{run.step}",
            _percent(run.best),
            _left(run, ""),
        )
    note = "best: accuracy among all classes; quiet: nothing for 5 min, it may have stopped"
    return Group(Text(folder, style="bold"), told, "", table, Text(note, style="dim"))


def duration(seconds: float) -> str:
    """In its two largest units: 12 s, 5 min, 2 h 05 min, 3 d 04 h."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours = minutes // 60
    if hours < 1:
        return f"{minutes} min"
    if hours < 24:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{hours // 24} d {hours % 24:02d} h"


def _doing(run: Snapshot) -> str:
    of = f" of {run.tasks}" if run.tasks else ""
    place = f"task {run.task}{of}" + ("" if run.name == f"task {run.task}" else f", {run.name}")
    match run.state:
        case "finished":
            return f"finished, {run.tasks} task{'s' * (run.tasks != 1)}"
        case "diverged":
            return f"diverged in {place}: a loss is not finite"
        case "evaluating":
            return f"evaluating after {place}: {run.evaluated} of {run.num_models} models"
        case "starting" if run.task == 1 and not run.models:
            return "starting: zero-shot accuracy comes first"
        case _:
            return f"{run.state} {place}"


def _bars(run: Snapshot) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True)
    done = run.task if run.state == "finished" else run.task - 1
    if run.total_steps:
        counted = f"{run.total_step:,}/{run.total_steps:,} steps"
        bar = ProgressBar(run.total_steps, run.total_step)
        grid.add_row("all tasks", bar, counted, _left(run, " left"))
    elif run.tasks:
        bar = ProgressBar(run.tasks, done)
        grid.add_row("all tasks", bar, f"{done}/{run.tasks} tasks", "")
    if run.state != "finished":
        steps = f"{run.step:,}/{run.steps:,} steps" if run.steps else f"{run.step:,} steps"
        left = run.seconds_left_of_task if run.state == "training" else None
        told = "" if left is None else f"{duration(left)} left"
        bar = ProgressBar(run.steps, run.step) if run.steps else ""
        grid.add_row(f"task {run.task}", bar, steps, told)
    return grid


def _training(run: Snapshot) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    speed = "" if run.images_per_second is None else f"{run.images_per_second:,.0f} images/s"
    rate = f"rate {run.learning_rate:.1e}"
    grid.add_row(f"loss {run.loss:.3f}", Sparkline(run.losses), rate, speed)
    return grid


def _signs_of_life(run: Snapshot, now: float) -> RenderableType:
    if run.written is None:
        return Text("nothing is written yet", style="dim")
    age = duration(now - run.written)
    if _is_quiet(run, now):
        line = Text(f"nothing for {age}: it may have stopped", style="bold yellow")
    else:
        line = Text(f"last line {age} ago", style="dim")
    if run.checkpoint:
        number, made = run.checkpoint
        line.append(f", checkpoint {number} {duration(max(now - made, 0))} ago", style="dim")
    return line


def _accuracies(run: Snapshot) -> RenderableType:
    latest = max(model.after for model in run.models)
    of = f" of {run.tasks}" if run.tasks else ""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(f"after task {latest}{of}" if latest else "before training", overflow="fold")
    for column in ("agnostic", "change", "aware", "forgetting"):
        table.add_column(column, justify="right", no_wrap=True)
    for model in run.models:
        late = 0 < model.after < latest
        table.add_row(
            title_of(model.label) + (f" (after {model.after})" if late else ""),
            _percent(model.agnostic),
            _points(model.change, "+.1f"),
            _percent(model.aware),
            _points(model.forgetting, ".1f"),
            style="" if model.after == latest else "dim",
        )
    note = (
        "agnostic: accuracy on all test images among all classes, and its change since the task "
        "before; aware: among the task's own; forgetting: of the tasks so far, in points"
    )
    return Group("", table, Text(note, style="dim"))


def _left(run: Snapshot, word: str) -> str:
    """Of the run; before an evaluation was timed, at least."""
    if run.seconds_left is None:
        return ""
    return ("" if run.counts_evaluations else "> ") + duration(run.seconds_left) + word


def _is_quiet(run: Snapshot, now: float) -> bool:
    going_on = run.state not in ("finished", "diverged")
    return going_on and run.written is not None and now - run.written > QUIET


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _points(difference: float | None, form: str) -> str:
    return "" if difference is None else f"{100 * difference:{form}}"
