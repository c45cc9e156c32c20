"""When a process that is watched from outside has come how far: by the files that it writes."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PERIOD = 0.005
"""Seconds between two looks."""


@contextmanager
def milestones(files: Mapping[str, Path]) -> Iterator[dict[str, float]]:
    """Seconds from here until each file was there with something in it, by the milestone's name.

    Those that are not reached by the end of the context have no entry.
    """
    reached: dict[str, float] = {}
    over = threading.Event()
    start = time.perf_counter()

    def look() -> None:
        while not over.wait(PERIOD):
            for name, file in files.items():
                if name not in reached and _has_something(file):
                    reached[name] = time.perf_counter() - start

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield reached
    finally:
        over.set()
        watcher.join()


def _has_something(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except OSError:
        return False
