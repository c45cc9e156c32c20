"""What is known of a command that writes."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Words = tuple[str, ...]


def _all(name: str, content: bytes) -> bytes | None:
    return content


class Written(NamedTuple):
    """A command.

    Attributes:
      make: writes what it reads into an empty folder; runs in a process of its own.
      argv: its words, with paths from that folder.
      before: commands to run in that folder first.
      killed: whether the last of them is killed after two thirds of its writes.
      own: start of the names of files that belong to the command, which it may change at any time.
      counts: given a file's name and content, the part that is the same in every undisturbed run;
        None for a file that `reads` is for.
      reads: commands that read what bytes do not show, and write it down.
      patch: changes this process, which has no network and no large archives.
    """

    make: Callable[[Path], None]
    argv: Words
    before: tuple[Words, ...] = ()
    killed: bool = False
    own: str = "."
    counts: Callable[[str, bytes], bytes | None] = _all
    reads: tuple[Words, ...] = ()
    patch: Callable[[Path], None] = lambda folder: None
