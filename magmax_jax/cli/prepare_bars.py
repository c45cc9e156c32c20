"""Progress output of `magmax prepare`."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import tensorflow_datasets as tfds
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bars:
    """A `Display` of lines and, on a terminal, bars: TFDS's own, then ours during verification."""

    def __init__(self, console: Console | None = None) -> None:
        # The stream object itself: TFDS's output is captured while it works, these lines are not.
        self.console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    @contextmanager
    def preparing(self, name: str) -> Iterator[None]:
        """TFDS draws its bars on stderr."""
        if self.console.is_terminal:
            tfds.enable_progress_bar()
        else:
            tfds.disable_progress_bar()
        yield

    @contextmanager
    def reading(self, name: str, records: int) -> Iterator[Callable[[int], None]]:
        if not self.console.is_terminal:
            yield lambda count: None
            return
        columns = (
            TextColumn("{task.description:<36}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(f"{name}: verifying", total=records)
            yield lambda count: progress.advance(task, count)
