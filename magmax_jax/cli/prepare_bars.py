"""What `magmax prepare` shows while it works."""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import tensorflow_datasets as tfds
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tensorflow_datasets.core.utils import tqdm_utils

from magmax_jax.data.prepare.prepare import NullDisplay

_NAMES = {
    "dl completed": "archives",
    "dl size": "download (MiB)",
    "extraction completed": "unpacked files",
}
"""What TFDS's bars are called, and what we call them."""


class Bars(NullDisplay):
    """Lines, and on a terminal bars: TFDS's downloading and writing, and our reading."""

    def __init__(self, console: Console | None = None) -> None:
        # The stream itself: TFDS's prints are caught while it works, and these lines are not.
        self.console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    @contextmanager
    def preparing(self, name: str) -> Iterator[None]:
        if not self.console.is_terminal:
            tfds.disable_progress_bar()
            yield
            return
        tfds.enable_progress_bar()
        library = tqdm_utils.tqdm_lib
        with self._progress() as progress:
            row = partial(_Row, progress, name)
            row.get_lock = threading.RLock
            tqdm_utils.tqdm_lib = SimpleNamespace(tqdm=row)  # where TFDS looks for the package tqdm
            try:
                yield
            finally:
                tqdm_utils.tqdm_lib = library

    @contextmanager
    def reading(self, name: str, records: int) -> Iterator[Callable[[int], None]]:
        if not self.console.is_terminal:
            yield lambda count: None
            return
        with self._progress() as progress:
            task = progress.add_task(f"{name}: verifying", total=records)
            yield lambda count: progress.advance(task, count)

    def _progress(self) -> Progress:
        columns = (
            TextColumn("{task.description:<36}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        return Progress(*columns, console=self.console, transient=True)


class _Row:
    """The part of tqdm's bar that TFDS uses, as a row of one display."""

    def __init__(
        self,
        progress: Progress,
        name: str,
        items: Iterable[Any] = (),
        desc: str = "",
        total: int | None = None,
        **_: Any,
    ) -> None:
        self.progress, self.items = progress, items
        what = desc.split("/")[0].strip(" .").lower()  # "Shuffling /a/b/c..."
        sized = total or (len(items) if isinstance(items, Sized) else 0)
        self.task = progress.add_task(f"{name}: {_NAMES.get(what, what)}", total=sized or None)

    @property
    def total(self) -> float:
        return self.progress.tasks[self.progress.task_ids.index(self.task)].total or 0

    @total.setter
    def total(self, value: float) -> None:
        self.progress.update(self.task, total=value or None)

    def update(self, count: int = 1) -> None:
        self.progress.advance(self.task, count)

    def refresh(self) -> None:
        pass

    def __iter__(self) -> Iterator[Any]:
        for item in self.items:
            yield item
            self.update()
        self.close()

    def __enter__(self) -> "_Row":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.progress.update(self.task, visible=False)
