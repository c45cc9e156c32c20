"""Reporting the progress of a preparation."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import tensorflow_datasets as tfds


class Display(Protocol):
    """Where a preparation reports its progress."""

    def say(self, text: str) -> None:
        """Shows a line."""

    def preparing(self, name: str) -> AbstractContextManager[None]:
        """While TFDS downloads and writes."""

    def reading(self, name: str, records: int) -> AbstractContextManager[Callable[[int], None]]:
        """A bar over records; yields what to call with each number read."""


class NullDisplay:
    """Shows nothing."""

    def say(self, text: str) -> None:
        pass

    def preparing(self, name: str) -> AbstractContextManager[None]:
        tfds.disable_progress_bar()
        return contextlib.nullcontext()

    def reading(self, name: str, records: int) -> AbstractContextManager[Callable[[int], None]]:
        return contextlib.nullcontext(lambda count: None)
