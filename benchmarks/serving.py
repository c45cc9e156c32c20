"""The contender's side of the protocol: prepares once, then answers call by call.

python -m benchmarks.serving MODULE:FUNCTION SETTINGS

FUNCTION takes the settings (JSON) and returns a `Prepared`. Uses only the standard library, so that
a contender can run in any environment.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

Facts = dict[str, Any]
"""What a contender reports about itself; JSON."""

NO_ROOM = "RESOURCE_EXHAUSTED", "out of memory", "ALLOC_FAILED", "can't allocate memory"
"""Texts of out-of-memory errors."""


class Prepared(NamedTuple):
    """A contender ready to be called.

    Attributes:
      facts: reported beforehand, e.g. its compilation time.
      call: does the work once and returns when it is done. A returned dict is added to the record
        of the call; its `seconds` replace the measured ones.
      last: makes the final report, e.g. of peak memory.
      units: how often a call does the timed work, e.g. training steps.
    """

    facts: Facts
    call: Callable[[], object]
    last: Callable[[], Facts] = dict
    units: int = 1


def main() -> None:
    """Prepares, then makes a call for every line on stdin.

    Answers the preparation, each call and the end with one line of JSON; all other output goes to
    stderr.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(facts: Facts) -> None:
        print(json.dumps(facts), file=answers, flush=True)

    module, _, function = sys.argv[1].partition(":")
    prepare: Callable[[Facts], Prepared] = getattr(importlib.import_module(module), function)
    try:
        ready = prepare(json.loads(sys.argv[2]))
        answer(ready.facts)
        for _ in sys.stdin:
            start = time.perf_counter()
            found = ready.call()
            seconds = (time.perf_counter() - start) / ready.units
            answer({"seconds": seconds} | (found if isinstance(found, dict) else {}))
        answer(ready.last())
    except RuntimeError as error:  # JAX's, torch's, cuBLAS's and the CPU's
        if any(sign in str(error) for sign in NO_ROOM):
            raise MemoryError("the device has no room for it") from None
        raise


def resident_peak() -> int:
    """Peak resident memory of this process so far (VmHWM) in bytes; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
