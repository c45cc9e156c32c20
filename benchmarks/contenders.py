"""One protocol for side-by-side timing: contenders that take turns.

Each contender is a separate process. A `Served` one is prepared once and then timed call by call,
so its times include neither imports nor compilation. A `Whole` one is restarted for every call
and runs to completion. Turns are round-robin, so drift of the machine affects all alike.
"""

import contextlib
import functools
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving import Facts
from benchmarks.watching import kill, watch

ROOT = Path(__file__).resolve().parent.parent


@dataclass(kw_only=True)
class Contender:
    """Something to time; a context manager that leaves no process behind.

    Attributes:
      labels: distinguish it from others of the same name, e.g. its batch size.
      python: interpreter of the environment in which it runs.
      needs: the module without which it is absent; None if it needs none.
      variables: environment variables in addition to `environment()`.
      limit: maximum seconds for a call, for the preparation and for the shutdown.
      calls: one record per timed call, with its `seconds`.
      facts: what it reported about itself, before and after.
      failure: why it dropped out, e.g. "> 1800 s" or "failed: " and the last line that it wrote to
        stderr; None if all went well.
    """

    name: str
    labels: Mapping[str, object] = field(default_factory=dict)
    python: Path | str = sys.executable
    needs: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    limit: float = 1800.0
    calls: list[Facts] = field(default_factory=list, init=False)
    facts: Facts = field(default_factory=dict, init=False)
    failure: str | None = field(default=None, init=False)

    @property
    def seconds(self) -> list[float]:
        return [call["seconds"] for call in self.calls]

    def median(self, part: str = "seconds") -> float:
        """Median of one entry of the calls' records."""
        return statistics.median(call[part] for call in self.calls)

    def __enter__(self) -> "Contender":
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def warm(self, first: bool, alone: bool) -> None:
        """Warms up, so that the next call takes as long as any other.

        Args:
          first: whether this is its first turn.
          alone: whether there are no other contenders.
        """

    def call(self) -> bool:
        """Makes a call unless it has failed; returns whether a record was added."""
        raise NotImplementedError


@dataclass(kw_only=True)
class Served(Contender):
    """A function run by `benchmarks.serving`.

    Attributes:
      function: MODULE:FUNCTION.
      settings: its argument; JSON.
    """

    function: str
    settings: Facts

    def __enter__(self) -> "Served":
        self._log = tempfile.TemporaryFile("w+")
        # In a shared directory, torch would find another contender's compiled code.
        self._folder = tempfile.TemporaryDirectory()
        variables = {"TORCHINDUCTOR_CACHE_DIR": self._folder.name, **self.variables}
        command = [str(self.python), "-m", "benchmarks.serving", self.function]
        self._process = subprocess.Popen(
            [*command, json.dumps(self.settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._log, text=True, cwd=ROOT, env=environment(**variables),
            start_new_session=True,
        )  # fmt: skip
        try:
            self.facts |= self._answer()
        except BaseException:
            self._end()
            raise
        return self

    def warm(self, first: bool, alone: bool) -> None:
        """An untimed call: a process that waited for others must first fault in memory that the
        system has reclaimed."""
        if (first or not alone) and self.call():
            self.calls.pop()

    def call(self) -> bool:
        if self.failure:
            return False
        with contextlib.suppress(BrokenPipeError):  # the process has exited; its answer says why
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        answer = self._answer()
        self.calls += [answer] if answer else []
        return bool(answer)

    def __exit__(self, *raised: object) -> None:
        try:
            if self.failure is None and raised[0] is None:
                self._process.stdin.close()
                self.facts |= self._answer()
        finally:
            self._end()

    def _end(self) -> None:
        kill(self._process)
        for stream in (self._process.stdin, self._process.stdout, self._log):
            with contextlib.suppress(BrokenPipeError):  # it never read the last request
                stream.close()
        self._folder.cleanup()

    def _answer(self) -> Facts:
        """Its next line of output; {} once it has failed."""
        # Each answer is one line and is awaited, so nothing is already buffered here.
        if select.select([self._process.stdout], [], [], self.limit)[0]:
            line = self._process.stdout.readline()
            with contextlib.suppress(json.JSONDecodeError):
                return json.loads(line)
            code = None if line else self._process.wait()
            self._log.seek(0)
            said = last_line(self._log.read()) or f"exit status {code} without a message"
            self.failure = f"failed: {f'it answered {line.strip()[:80]!r}' if line else said}"
        else:
            self.failure = f"> {self.limit:g} s"
        kill(self._process)
        return {}


@dataclass(kw_only=True)
class Whole(Contender):
    """A program timed from its start until it has exited.

    Attributes:
      command: the command line.
      memory: limit in bytes on the private memory of its processes together.
      once_over: seconds; if a call takes longer, it is the only one.
      before: called before each call, untimed.
      warmed_up: whether the first call is an untimed warm-up, so that its files are in memory.
      files: by name; the record has the seconds until each was non-empty, as `reached`.
    """

    command: Sequence[str]
    memory: float = float("inf")
    once_over: float = float("inf")
    before: Callable[[], object] = lambda: None
    warmed_up: bool = False
    files: Mapping[str, Path] = field(default_factory=dict)

    def warm(self, first: bool, alone: bool) -> None:
        if first and self.warmed_up and self.call():
            self.calls.pop()

    def call(self) -> bool:
        if self.failure or any(seconds > self.once_over for seconds in self.seconds):
            return False
        self.before()
        with tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                cwd=ROOT, env=environment(**self.variables), start_new_session=True,
            )  # fmt: skip
            seen = watch(process, self.memory, self.limit, self.files)
            log.seek(0)
            said = last_line(log.read())
        self.failure = seen.exceeded
        if not seen.exceeded and process.returncode:
            said = said or f"exit status {process.returncode} without a message"
            self.failure = f"failed: {said}"
        self.calls.append({name: value for name, value in vars(seen).items() if name != "exceeded"})
        return True


def of_checkout(checkout: Path) -> dict[str, str]:
    """Variables of a contender that imports our package from another checkout."""
    # Otherwise the working directory, which is this tree, would come first.
    return {"PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}


def take_turns(
    contenders: Sequence[Contender],
    repeats: int,
    after_call: Callable[[Contender], object] = lambda contender: None,
) -> None:
    """Prepares all, then calls each `repeats` times, round-robin; 0 repeats only warm up.

    A contender whose module cannot be imported is skipped; its `failure` says so.

    Args:
      after_call: called after each timed call.
    """
    for one in contenders:
        if one.needs and (why := why_absent(str(one.python), one.needs)):
            one.failure = f"absent: {why}"
    with contextlib.ExitStack() as stack:
        present = [stack.enter_context(one) for one in contenders if not one.failure]
        for repeat in range(max(repeats, 1)):
            for one in present:
                one.warm(first=repeat == 0, alone=len(present) == 1)
                if repeats and one.call():
                    after_call(one)


@functools.cache
def why_absent(python: str, module: str) -> str | None:
    """The error when importing a module with that python; None if it can be imported."""
    command = [python, "-c", f"import {module}"]
    shown = subprocess.run(command, capture_output=True, text=True, env=environment())
    return (last_line(shown.stderr) or "no message") if shown.returncode else None


def last_line(text: str) -> str:
    """The last non-empty line, where a traceback names the error, or ""."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def environment(**more: str) -> dict[str, str]:
    """Environment of a child: this working tree is importable, the hub is offline, and JAX
    allocates memory on demand, which leaves room for others."""
    ours = {
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    return os.environ | ours | more
