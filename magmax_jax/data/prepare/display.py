"""Reports the progress of a preparation."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import tensorflow_datasets as tfds


class Display(Protocol):
    """The interface to which a preparation reports its progress."""

    def say(self, text: str) -> None:
        """Shows a line."""

    def preparing(self, name: str) -> AbstractContextManager[None]:
        """Active while TFDS downloads and writes."""

    def reading(self, name: str, records: int) -> AbstractContextManager[Callable[[int], None]]:
        """A bar over records; yields a callback for the number of records read."""


class NullDisplay:
    """Shows nothing."""

    def say(self, text: str) -> None:
        pass

    def preparing(self, name: str) -> AbstractContextManager[None]:
        tfds.disable_progress_bar()
        return contextlib.nullcontext()

    def reading(self, name: str, records: int) -> AbstractContextManager[Callable[[int], None]]:
        return contextlib.nullcontext(lambda count: None)
