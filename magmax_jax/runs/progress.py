"""Progress reporting for runs, evaluations and studies."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import Protocol, TypeVar

from rich import progress as bars
from rich.console import Console, RenderableType

from magmax_jax.errors import harmless
from magmax_jax.training import Metrics

Item = TypeVar("Item")


class Progress(Protocol):
    """The interface to which runs, evaluations and studies report progress."""

    def say(self, text: RenderableType) -> None:
        """Reports a line."""
        ...

    def training(
        self, name: str, steps: int, images: int, first: int = 0
    ) -> AbstractContextManager[Callable[[int, Metrics[float]], None]]:
        """Reports training from step `first` to `steps`; yields a callback for step metrics."""
        ...

    def evaluating(self, name: str, batches: Iterable[Item], total: int) -> Iterable[Item]:
        """The batches of one pass without training, reported as they are read."""
        ...


class NullProgress(Progress):
    """Reports nothing; the default, and used by all processes except the first."""

    def say(self, text: RenderableType) -> None:
        pass

    @contextmanager
    def training(
        self, name: str, steps: int, images: int, first: int = 0
    ) -> Iterator[Callable[[int, Metrics[float]], None]]:
        yield lambda step, metrics: None

    def evaluating(self, name: str, batches: Iterable[Item], total: int) -> Iterable[Item]:
        return batches


class TerminalProgress(Progress):
    """Bars with loss, images per second and time left; in a log file, one line per finished bar.

    The same in a notebook without ipywidgets, where rich cannot draw bars.
    """

    def __init__(self, console: Console | None = None):
        self.console = console or _console()

    def say(self, text: RenderableType) -> None:
        self.console.print(harmless(text) if isinstance(text, str) else text)

    @contextmanager
    def training(
        self, name: str, steps: int, images: int, first: int = 0
    ) -> Iterator[Callable[[int, Metrics[float]], None]]:
        began, mean = 0.0, 0.0
        with self._bar(transient=False) as bar:
            task = bar.add_task(harmless(name), total=steps, completed=first, facts="compiling")

            def on_step(step: int, metrics: Metrics[float]) -> None:
                nonlocal began, mean
                if step == first:  # start timing after the first step, which compiles
                    began, mean = time.perf_counter(), metrics.loss
                    bar.update(task, completed=step + 1, facts=f"loss {mean:.3f}")
                    return
                mean = 0.9 * mean + 0.1 * metrics.loss
                rate = images * (step - first) / steps / (time.perf_counter() - began)
                bar.update(task, completed=step + 1, facts=f"loss {mean:.3f}  {rate:,.0f} images/s")

            yield on_step

    def evaluating(self, name: str, batches: Iterable[Item], total: int) -> Iterator[Item]:
        if not self.console.is_terminal:  # a log file: a bar that vanishes would leave blank lines
            yield from batches
            return
        with self._bar(transient=True) as bar:
            task = bar.add_task(harmless(f"evaluating {name}"), total=total, facts="")
            for batch in batches:
                yield batch
                bar.advance(task)

    def _bar(self, transient: bool) -> bars.Progress:
        columns = (
            bars.TextColumn("{task.description:<28}", markup=False),
            bars.BarColumn(bar_width=24),
            bars.TextColumn("{task.completed}/{task.total}"),
            bars.TimeRemainingColumn(elapsed_when_finished=True),
            bars.TextColumn("{task.fields[facts]}"),
        )
        return bars.Progress(*columns, console=self.console, transient=transient)


def _console() -> Console:
    # In `RUN:module:function`, rich would take `:module:` for an emoji.
    console = Console(highlight=False, emoji=False)
    if console.is_jupyter and find_spec("ipywidgets") is None:
        # Jupyter's standard output claims to be a terminal.
        return Console(highlight=False, emoji=False, force_jupyter=False, force_terminal=False)
    return console
