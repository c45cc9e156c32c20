"""A cell as a job that submitit runs, on this machine or on a Slurm cluster.

A job runs the same process as a grid without a launcher, so it resumes in the same way.
submitit's own files (`jobs/`) are pickles that its jobs read on the same disk; no run reads them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from magmax_jax.cli.grid import cells as one
from magmax_jax.errors import UserError

REQUEUES = 1000
"""How often a job that reaches its time limit may be requeued."""


@dataclass
class Job:
    """One cell as submitit runs it, in one or several processes."""

    command: list[str]
    lock: str
    env: one.Env = field(default_factory=dict)

    def __call__(self) -> one.Outcome:
        """Runs the cell; forwards SIGTERM, so that the cell saves and exits."""
        import submitit

        first = submitit.JobEnvironment().global_rank == 0
        print(f"$ {one.shown(self.command)}", flush=True)
        with one.relayed() as relay:
            self._relay = relay
            # If several processes share a run, the first one holds its lock.
            outcome = relay.run(self.command, Path(self.lock) if first else None, self.env)
            del self._relay
        return outcome

    def checkpoint(self) -> Any:
        """Called by submitit before the time limit, or when the job is preempted."""
        import submitit

        process = self._relay.process
        if process is not None:
            process.stop()
        return submitit.helpers.DelayedSubmission(Job(self.command, self.lock, self.env))


@contextmanager
def submitit_in(folder: Path) -> Iterator[ModuleType]:
    """The package submitit, whose executors keep their files in the folder.

    Raises:
      UserError: the folder cannot be written.
    """
    # Otherwise it configures logging on import and closes handlers that others have installed.
    os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")
    import submitit

    try:
        yield submitit
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): choose another --out"
        ) from None


def outcome_of(job: Any) -> one.Outcome:
    """The worst outcome among a job's processes."""
    try:
        outcomes = job.results()
    except Exception as error:  # submitit's own: killed, lost, or refused by the cluster
        lines = str(error).strip().splitlines()
        return one.Outcome(1, f"{lines[0] if lines else error!r} (see {job.paths.stderr})")
    return max(outcomes, key=lambda outcome: outcome.failed)


def in_words(outcome: one.Outcome) -> str:
    """How a cell ended, in words, for the progress output."""
    if outcome.code == one.ELSEWHERE:
        return "runs elsewhere"
    return f"failed: {outcome.reason}" if outcome.failed else "done"


@contextmanager
def signals_noted() -> Iterator[list[int]]:
    """Collects the signals that arrive in this context, without ending the process."""
    seen: list[int] = []
    with one.handled(lambda number, frame: seen.append(number)):
        yield seen
