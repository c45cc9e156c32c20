"""What `experiments.prepare` shows while it goes on."""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow_datasets as tfds
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tensorflow_datasets.core.utils import tqdm_utils

from magmax_jax.data.preparation import Silent


class Bars(Silent):
    """Lines, and on a terminal bars: TFDS's downloading and writing, and our reading."""

    def __init__(self) -> None:
        # The stream itself: TFDS's prints are caught while it works, and these lines are not.
        self.console = Console(file=sys.stdout, highlight=False, soft_wrap=True)

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
            tqdm_utils.tqdm_lib = _Tqdm(progress, name)
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
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        return Progress(*columns, console=self.console, transient=True)


class _Tqdm:
    """Stands where TFDS looks for the package tqdm, and makes rows of one display."""

    def __init__(self, progress: Progress, name: str) -> None:
        self.progress, self.name = progress, name
        self.tqdm.get_lock = threading.RLock  # each asks for one, and none shares it

    def tqdm(self, *args: Any, **kwargs: Any) -> "_Row":
        return _Row(self.progress, self.name, *args, **kwargs)


class _Row:
    """The part of tqdm's bar that TFDS uses."""

    def __init__(
        self,
        progress: Progress,
        name: str,
        items: Iterable[Any] = (),
        desc: str = "",
        total: int | None = None,
        unit: str = "",
        **_: Any,
    ) -> None:
        self.progress, self.items = progress, items
        what = desc.strip(" .").lower() + (f" ({unit.strip()})" if unit.strip() == "MiB" else "")
        self.task = progress.add_task(f"{name}: {what}", total=total or 0)

    @property
    def total(self) -> float:
        return self.progress.tasks[self.progress.task_ids.index(self.task)].total or 0

    @total.setter
    def total(self, value: float) -> None:
        self.progress.update(self.task, total=value)

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
