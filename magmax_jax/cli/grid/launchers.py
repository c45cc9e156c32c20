"""Cells as jobs: several at a time on this machine, or on a Slurm cluster, both through submitit.

A job is the same process that a grid without a launcher starts, so it is resumed in the same way.
submitit's own files (`jobs/`) are pickles that its jobs read on the same disk; no run reads them.
"""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from magmax_jax.cli.grid import cells as one
from magmax_jax.cli.grid.settings import Cell
from magmax_jax.errors import MAGMAX, Interrupted, Program, UserError

JOBS = "jobs"
"""Folder of the jobs' output and of submitit's own files."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
REQUEUES = 1000
"""Maximum number of requeues of a job that reaches its time limit."""
A_DAY, A_YEAR = 60 * 24, 60 * 24 * 365


@dataclass(frozen=True)
class Launcher:
    """Where cells run: here one after another, or as jobs."""

    launcher: Literal["local", "slurm"] | None = None
    """Run each cell as a job: local runs --jobs at a time on this machine, slurm submits all and
    waits. Not set: cells run one after another in the foreground."""
    jobs: int | None = None
    """Maximum number of jobs at a time (default: 1 for local, the cluster's limit for slurm)."""
    nodes: int = 1
    """slurm: nodes per job; several train one cell together (jax.distributed, a process a GPU)."""
    gpus_per_node: int | None = None
    """GPUs per job and node; jobs that run at the same time on this machine get different ones."""
    cpus_per_task: int | None = None
    """slurm: CPU cores per task."""
    mem_gb: float | None = None
    """slurm: memory per node."""
    timeout_min: int | None = None
    """slurm: time limit, 24 hours by default; a job that reaches it saves, is requeued and
    resumes."""
    partition: str | None = None
    slurm: tuple[str, ...] = ()
    """Other sbatch options as KEY=VALUE, e.g. account=me qos=long."""

    def __post_init__(self) -> None:
        for name in ("jobs", "nodes", "gpus_per_node", "cpus_per_task", "mem_gb", "timeout_min"):
            value, flag = getattr(self, name), "--" + name.replace("_", "-")
            if value is not None and value <= 0:
                raise UserError(f"{flag} is {value}: it must be positive")
        wrong = [pair for pair in self.slurm if "=" not in pair]
        if wrong:
            raise UserError(f"--slurm {wrong[0]}: give KEY=VALUE, as in account=me")
        of_slurm = self.nodes > 1 or any(
            (self.cpus_per_task, self.mem_gb, self.timeout_min, self.partition, self.slurm)
        )
        if self.launcher != "slurm" and of_slurm:
            raise UserError(
                "--nodes, --cpus-per-task, --mem-gb, --timeout-min, --partition and --slurm need "
                "--launcher slurm: add it, or leave them out"
            )
        if self.launcher is None and (self.jobs or self.gpus_per_node):
            raise UserError("--jobs and --gpus-per-node need --launcher local or slurm")

    @property
    def tasks_per_node(self) -> int:
        """JAX takes one GPU a process where several processes run on Slurm."""
        return 1 if self.nodes == 1 else self.gpus_per_node or 1

    def run(
        self, cells: Sequence[Cell], out: Path, program: Program = MAGMAX
    ) -> dict[Cell, one.Outcome]:
        """Submits the cells and waits for their end.

        Raises:
          UserError: there is no Slurm here, or it takes no such option.
          Interrupted: the process was asked to stop. Local jobs have saved; Slurm's go on.
        """
        if not cells:
            return {}
        executor = self.executor(out / JOBS)
        for cell in cells:
            one.prepare(cell, out)
        if self.launcher == "local":
            return _run_local(executor, self, cells, out, program)
        return _wait(executor, self, cells, out, program)

    def executor(self, folder: Path) -> Any:
        """submitit's, which knows what each job is given."""
        # Else it sets up logging when imported, and closes what handlers others have set up.
        os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")
        import submitit

        local = self.launcher == "local"
        parameters: dict[str, Any] = {"timeout_min": A_YEAR if local else self.timeout_min or A_DAY}
        if not local:
            parameters |= {
                "name": "magmax",
                "nodes": self.nodes,
                "tasks_per_node": self.tasks_per_node,
                "gpus_per_node": self.gpus_per_node,
                "cpus_per_task": self.cpus_per_task,
                "mem_gb": self.mem_gb,
                "slurm_partition": self.partition,
                "slurm_array_parallelism": self.jobs,
                "slurm_additional_parameters": dict(pair.split("=", 1) for pair in self.slurm),
            }
        try:
            executor = submitit.AutoExecutor(
                folder,
                self.launcher,
                slurm_max_num_timeout=REQUEUES,
                local_max_num_timeout=REQUEUES,
            )
            executor.update_parameters(**parameters)
        except RuntimeError as error:  # what it says where there is no srun
            raise UserError(f"--launcher slurm: {error} Start it on a login node") from None
        except OSError as error:
            raise UserError(
                f"{folder} cannot be written ({error.strerror}): choose another --out"
            ) from None
        return executor

    def job(
        self, cell: Cell, out: Path, env: one.Env | None = None, program: Program = MAGMAX
    ) -> "Job":
        """What runs a cell, as each process of its job calls it."""
        distributed = ["--distributed"] if self.nodes > 1 else []
        command = one.command(program, cell, out, *distributed)
        return Job(command, str(one.lock_of(cell, out)), env or {})


@dataclass
class Job:
    """One cell as submitit runs it, in one or several processes."""

    command: list[str]
    lock: str
    env: one.Env = field(default_factory=dict)

    def __call__(self) -> one.Outcome:
        """Runs the cell; a SIGTERM is passed on, so that it saves and ends."""
        import submitit

        first = submitit.JobEnvironment().global_rank == 0
        print(f"$ {one.shown(self.command)}", flush=True)
        with one.relayed() as relay:
            self._relay = relay
            # Of several processes that share a run, the first one holds its lock.
            outcome = relay.run(self.command, Path(self.lock) if first else None, self.env)
            del self._relay
        return outcome

    def checkpoint(self) -> Any:
        """What submitit calls before the time limit, or when the job has to make room."""
        import submitit

        process = self._relay.process
        if process is not None:
            process.stop()
        return submitit.helpers.DelayedSubmission(Job(self.command, self.lock, self.env))


def _run_local(
    executor: Any, launcher: Launcher, cells: Sequence[Cell], out: Path, program: Program
) -> dict[Cell, one.Outcome]:
    """So many at a time; the first signal lets those that run save, and starts no more."""
    slots, waiting = list(range(launcher.jobs or 1)), list(cells)
    running: dict[Cell, tuple[Any, int]] = {}
    outcomes: dict[Cell, one.Outcome] = {}
    with _noted() as stop:
        told = None
        while running or (waiting and not stop):
            while waiting and slots and not stop:
                cell, slot = waiting.pop(0), slots.pop(0)
                # Else a terminal's Ctrl-C would reach submitit, which gives jobs a second to end.
                noting = signal.signal(signal.SIGINT, signal.SIG_IGN)
                devices = visible_gpus(launcher, slot)
                job = executor.submit(launcher.job(cell, out, devices, program))
                signal.signal(signal.SIGINT, noting)
                running[cell] = job, slot
                print(f"{cell.name}: {job.paths.stdout}", flush=True)
            if stop and len(stop) != told:
                told = len(stop)
                for job, _ in running.values():
                    os.kill(int(job.job_id), signal.SIGTERM)
            for cell, (job, slot) in list(running.items()):
                if job.done():
                    outcomes[cell] = _outcome(job)
                    slots.append(slot)
                    del running[cell]
                    print(f"{cell.name}: {_told(outcomes[cell])}", flush=True)
            time.sleep(0.2)
    if stop:
        raise Interrupted(stop[0])
    return outcomes


def _wait(
    executor: Any, launcher: Launcher, cells: Sequence[Cell], out: Path, program: Program
) -> dict[Cell, one.Outcome]:
    """All at once, as an array of jobs; what is submitted outlives this process."""
    import submitit

    try:
        with executor.batch():
            jobs = [executor.submit(launcher.job(cell, out, program=program)) for cell in cells]
    except submitit.core.utils.FailedJobError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"sbatch refuses the jobs ({reason}): change --slurm, --partition or what they ask for"
        ) from None
    for cell, job in zip(cells, jobs, strict=True):
        print(f"{cell.name}: job {job.job_id}, {job.paths.stdout}", flush=True)
    outcomes: dict[Cell, one.Outcome] = {}
    with _noted() as stop:
        while len(outcomes) < len(jobs) and not stop:
            for cell, job in zip(cells, jobs, strict=True):
                if cell not in outcomes and job.done():
                    outcomes[cell] = _outcome(job)
                    print(f"{cell.name}: {_told(outcomes[cell])}", flush=True)
            time.sleep(1)
    if stop:
        first = jobs[0].job_id.partition("_")[0]
        # The same command would submit what is still queued once more.
        raise Interrupted(
            stop[0],
            f"the jobs go on without this command (scancel {first} ends them): repeat it when they "
            "have ended",
        )
    return outcomes


def _outcome(job: Any) -> one.Outcome:
    """The worst of what a job's processes returned."""
    try:
        outcomes = job.results()
    except Exception as error:  # submitit's own: killed, lost, or refused by the cluster
        lines = str(error).strip().splitlines()
        return one.Outcome(1, f"{lines[0] if lines else error!r} (see {job.paths.stderr})")
    return max(outcomes, key=lambda outcome: outcome.failed)


def _told(outcome: one.Outcome) -> str:
    if outcome.code == one.ELSEWHERE:
        return "runs elsewhere"
    return f"failed: {outcome.reason}" if outcome.failed else "done"


def visible_gpus(launcher: Launcher, slot: int) -> one.Env:
    """GPUs of a local job, of those that are given here: submitit hides them all otherwise.

    Raises:
      UserError: not so many are given as all jobs together take.
    """
    count, given = launcher.gpus_per_node, os.environ.get(VISIBLE)
    if count is None:
        return {VISIBLE: given}
    needed = count * (launcher.jobs or 1)
    ids = [*map(str, range(needed))] if given is None else [i for i in given.split(",") if i]
    if len(ids) < needed:
        raise UserError(
            f"{VISIBLE} is {given!r}, which is fewer than the {needed} GPUs that --jobs and "
            "--gpus-per-node take together: ask for less, or give more"
        )
    return {VISIBLE: ",".join(ids[slot * count : (slot + 1) * count])}


@contextmanager
def _noted() -> Iterator[list[int]]:
    """The signals that came in this context, which end nothing."""
    seen: list[int] = []
    with one.handled(lambda number, frame: seen.append(number)):
        yield seen
