"""Where the cells of a grid run: here, as jobs on this machine, or as jobs on a Slurm cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from magmax_jax.cli.grid import cells as one
from magmax_jax.cli.grid.jobs import Job
from magmax_jax.cli.grid.local_jobs import run_local
from magmax_jax.cli.grid.settings import Cell
from magmax_jax.cli.grid.slurm_jobs import Parameters, run_slurm, sbatch_options
from magmax_jax.errors import MAGMAX, Program, UserError, counted

JOBS = "jobs"
"""Folder for the jobs' output and submitit's own files."""
A_DAY = 60 * 24


@dataclass(frozen=True)
class Launcher:
    """Where cells run: here one after another, or as jobs."""

    launcher: Literal["local", "slurm"] | None = None
    """Run each cell as a job: local runs --jobs at a time on this machine, slurm submits all and
    waits. Not set: cells run one after another in the foreground."""
    jobs: int | None = None
    """Maximum number of jobs at a time (default: 1 for local, the cluster's limit for slurm)."""
    nodes: int = 1
    """slurm: nodes per job; several train one cell together, with one process for each GPU, as JAX
    requires on Slurm: set --gpus-per-node, too."""
    gpus_per_node: int | None = None
    """GPUs per job and node; concurrent jobs on this machine get different ones."""
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
        """On Slurm, JAX gives each process one GPU, the one with its local rank."""
        return 1 if self.nodes == 1 else self.gpus_per_node or 1

    @property
    def sbatch(self) -> Parameters:
        """The resources that each job requests from Slurm."""
        memory = None if self.mem_gb is None else f"{int(self.mem_gb * 1024)}MB"
        asked = {
            "job_name": "magmax",
            "time": self.timeout_min or A_DAY,
            "nodes": self.nodes,
            "ntasks_per_node": self.tasks_per_node,
            "gpus_per_node": self.gpus_per_node,
            "cpus_per_task": self.cpus_per_task,
            "mem": memory,
            "partition": self.partition,
            "array_parallelism": self.jobs,
            "additional_parameters": dict(pair.split("=", 1) for pair in self.slurm),
        }
        return {name: value for name, value in asked.items() if value is not None}

    def run(
        self, cells: Sequence[Cell], out: Path, program: Program = MAGMAX
    ) -> dict[Cell, one.Outcome]:
        """Submits the cells and waits until they end.

        Raises:
          UserError: there is no Slurm here, or it rejects an option.
          Interrupted: the process was asked to stop. Local jobs have saved; Slurm jobs continue.
        """
        if not cells:
            return {}

        def job(cell: Cell, env: one.Env | None = None) -> Job:
            return self.job(cell, out, env, program)

        def prepared(cell: Cell) -> Job:
            one.prepare(cell, out)
            return job(cell)

        if self.launcher == "slurm":
            return run_slurm(cells, out / JOBS, prepared, self.sbatch)
        for cell in cells:
            one.prepare(cell, out)
        return run_local(cells, out / JOBS, job, self.jobs or 1, self.gpus_per_node)

    def job(
        self, cell: Cell, out: Path, env: one.Env | None = None, program: Program = MAGMAX
    ) -> Job:
        """The job of a cell; each of its processes calls it."""
        distributed = ["--distributed"] if self.nodes > 1 else []
        command = one.command(program, cell, out, *distributed)
        return Job(command, str(one.lock_of(cell, out)), env or {})

    def describe(self, cells: Sequence[Cell], out: Path, program: Program = MAGMAX) -> str:
        """What would be submitted to Slurm for these cells; needs no Slurm."""
        processes = self.nodes * self.tasks_per_node
        lines = [
            f"one job for each of {counted(len(cells), 'cell')}; options of sbatch:",
            *(f"  {line}" for line in sbatch_options(out / JOBS, self.sbatch, len(cells))),
            f"each job runs {counted(processes, 'process')} with the command of its cell; for "
            f"{cells[0].name}:",
            f"  $ {one.shown(self.job(cells[0], out, program=program).command)}",
        ]
        return "\n".join([*lines, *self.notes()])

    def notes(self) -> list[str]:
        """Notes on settings that are allowed but rarely intended."""
        if self.launcher != "slurm" or self.nodes == 1 or self.gpus_per_node:
            return []
        return [
            "note: --gpus-per-node is not set, so a job has one process on each node, which uses "
            "one GPU at most"
        ]
