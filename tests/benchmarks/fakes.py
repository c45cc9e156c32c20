"""Contenders that do nothing or misbehave; see `test_contenders`."""

import sys
import time

from benchmarks.serving import Facts, Prepared


def counting(settings: Facts) -> Prepared:
    calls = []
    print("this goes to stderr")

    def call() -> Facts:
        calls.append(1)
        return {"number": len(calls)}

    return Prepared({"given": settings}, call, lambda: {"calls": len(calls)}, units=2)


def failing(settings: Facts) -> Prepared:
    def fail() -> None:
        raise RuntimeError(settings["error"])

    return fail() if settings["when"] == "prepare" else Prepared({}, fail)


def slow(settings: Facts) -> Prepared:
    time.sleep(100)
    return Prepared({}, dict)


def silent(settings: Facts) -> Prepared:
    sys.exit(3)


def room(settings: Facts) -> Prepared:
    """Has room for a given number of images."""
    if settings["batch_size"] > settings["room"]:
        raise RuntimeError("RESOURCE_EXHAUSTED: of memory, here and there")
    return Prepared({"compile": 0.0, "memory": 1e9}, dict)
