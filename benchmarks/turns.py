"""Contenders that are processes and take turns: each is prepared once, then timed call by call.

What drifts on the machine thus drifts for all, no one's imports or compilations are in anyone's
seconds, and every one has a process's memory for itself. A contender is a module that calls
`serve`; this file needs the standard library alone, so that it can be one of any environment.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent

Facts = dict[str, Any]
"""What a contender tells of itself; JSON."""


class Prepared(NamedTuple):
    """A contender, ready.

    Attributes:
      facts: what it has to tell beforehand, as how long it took to compile.
      call: does the work once, and returns when it is done.
      last: what it has to tell in the end, as how much memory it took.
    """

    facts: Facts
    call: Callable[[], object]
    last: Callable[[], Facts] = dict


def serve(prepare: Callable[[Facts], Prepared]) -> None:
    """The contender's side: prepares from the settings in argv, then does what it is asked for.

    A line of JSON answers the preparation, every call and the end; all else that is printed goes to
    stderr.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(facts: Facts) -> None:
        print(json.dumps(facts), file=answers, flush=True)

    ready = prepare(json.loads(sys.argv[1]))
    answer(ready.facts)
    for _ in sys.stdin:
        start = time.perf_counter()
        ready.call()
        answer({"seconds": time.perf_counter() - start})
    answer(ready.last())


def resident_peak() -> int:
    """Largest resident memory of this process so far (VmHWM), bytes; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


@dataclass
class Contestant:
    """The other side of one contender; a context that leaves no process behind.

    Attributes:
      facts: what it told, beforehand and in the end.
      seconds: of every call.
      limit: seconds that it may take to prepare itself, for a call, or to end.
      failure: why it took no further part: the last line that it wrote to stderr, "> 1800 s", or
        None.
    """

    name: str
    command: Sequence[str]
    settings: Facts
    environment: Mapping[str, str] | None = None
    facts: Facts = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    failure: str | None = None
    limit: float = 1800.0

    def __enter__(self) -> "Contestant":
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [*self.command, json.dumps(self.settings)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self._log, text=True, cwd=ROOT,
            env=self.environment or environment(),
        )  # fmt: skip
        try:
            self.facts |= self._answer()
        except BaseException:
            self._end()
            raise
        return self

    def call(self) -> None:
        """Asks for one call, if it still takes part."""
        if self.failure is None:
            self._ask()
            answer = self._answer()
            self.seconds += [answer["seconds"]] if answer else []

    def __exit__(self, *raised: object) -> None:
        try:
            if self.failure is None and raised[0] is None:
                self._process.stdin.close()
                self.facts |= self._answer()
        finally:
            self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            with contextlib.suppress(BrokenPipeError):  # a request that it never read
                stream.close()

    def _ask(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended, as its answer will tell
            self._process.stdin.write("\n")
            self._process.stdin.flush()

    def _answer(self) -> Facts:
        # Each answer is one line and is waited for, so nothing of it is buffered here already.
        if not select.select([self._process.stdout], [], [], self.limit)[0]:
            self._process.kill()
            self.failure = f"> {self.limit:g} s"
            return {}
        line = self._process.stdout.readline()
        if line:
            try:
                return json.loads(line)
            except json.JSONDecodeError:
                self._process.kill()
                self.failure = f"its answer is no JSON: {line.strip()[:80]!r}"
                return {}
        code = self._process.wait()
        self._log.seek(0)
        said = [line.strip() for line in self._log if line.strip()]
        self.failure = said[-1] if said else f"it ended with exit status {code}, without a word"
        return {}


def take_turns(
    contestants: Iterable[Contestant],
    repeats: int,
    told: Callable[[Contestant], None] = lambda contestant: None,
) -> list[Contestant]:
    """Prepares all, then calls each `repeats` times, round robin, or once unheeded if that is 0.

    Every turn begins with a call that does not count: a process that has waited for others pays for
    memory that the system has taken back, and work that follows on work does not.

    Args:
      told: is called after each call that counts.
    """
    with contextlib.ExitStack() as stack:
        field = [stack.enter_context(contestant) for contestant in contestants]
        for repeat in range(max(repeats, 1)):
            for contestant in field:
                if repeat == 0 or len(field) > 1:
                    contestant.call()
                    contestant.seconds[repeat:] = []
                if repeats > 0:
                    contestant.call()
                    told(contestant)
    return field


def environment(**more: str) -> dict[str, str]:
    """A child's: this working tree can be imported, no hub is asked for anything, and JAX takes the
    memory that it needs and no more, so that others have room beside it."""
    ours = {
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    return os.environ | ours | more
