"""Cells as an array of jobs on a Slurm cluster."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from magmax_jax.cli.grid import cells as one
from magmax_jax.cli.grid.jobs import (
    REQUEUES,
    Job,
    in_words,
    outcome_of,
    signals_noted,
    submitit_in,
)
from magmax_jax.cli.grid.settings import Cell
from magmax_jax.errors import Interrupted, UserError

Parameters = dict[str, Any]
"""sbatch options by submitit's names: sbatch's, with _ for -."""


def run_slurm(
    cells: Sequence[Cell], folder: Path, job_of: Callable[[Cell], Job], parameters: Parameters
) -> dict[Cell, one.Outcome]:
    """Submits all jobs at once, as an array, and waits; they outlive this process.

    Args:
      folder: of the jobs' output.
      job_of: makes the job of a cell; called only if Slurm is available.

    Raises:
      UserError: there is no Slurm here, or it rejects the jobs.
      Interrupted: the process was asked to stop; the jobs continue.
    """
    with submitit_in(folder) as submitit:
        try:
            executor = submitit.SlurmExecutor(folder, max_num_timeout=REQUEUES)
        except RuntimeError as error:  # submitit raises it without srun
            raise UserError(f"--launcher slurm: {error} Start it on a login node") from None
        executor.update_parameters(**parameters)
    jobs = _submit(executor, [job_of(cell) for cell in cells])
    named = dict(zip(cells, jobs, strict=True))
    for cell, job in named.items():
        print(f"{cell.name}: job {job.job_id}, {job.paths.stdout}", flush=True)
    outcomes: dict[Cell, one.Outcome] = {}
    with signals_noted() as stop:
        while len(outcomes) < len(jobs) and not stop:
            for cell, job in named.items():
                if cell not in outcomes and job.done():
                    outcomes[cell] = outcome_of(job)
                    print(f"{cell.name}: {in_words(outcomes[cell])}", flush=True)
            time.sleep(1)
    if stop:
        first = jobs[0].job_id.partition("_")[0]
        # The same command would submit queued jobs again.
        raise Interrupted(
            stop[0],
            f"the jobs continue without this command (scancel {first} ends them): run it again "
            "when they have ended",
        )
    return outcomes


def sbatch_options(folder: Path, parameters: Parameters, jobs: int) -> list[str]:
    """The sbatch options as lines of a script: "#SBATCH --nodes=2". Needs no Slurm."""
    with submitit_in(folder) as submitit:

        class Preview(submitit.SlurmExecutor):  # type: ignore[name-defined]  # untyped
            """Only asked for the script that it would write, so it needs no cluster."""

            @classmethod
            def affinity(cls) -> int:
                return 1

        executor = Preview(folder)
        executor.update_parameters(**parameters)
        if jobs > 1:
            executor.parameters["map_count"] = jobs
        script = executor._make_submission_file_text("", "")
    return [line for line in script.splitlines() if line.startswith("#SBATCH")]


def _submit(executor: Any, jobs: Sequence[Job]) -> list[Any]:
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        with executor.batch():
            return [executor.submit(job) for job in jobs]
    except FailedJobError as error:
        lines = str(error).strip().splitlines()
        reason = lines[-1] if lines else "it does not say why"
    except FailedSubmissionError as error:  # sbatch succeeded, but printed no job id
        reason = str(error).partition("\n")[0]
    raise UserError(
        f"sbatch refuses the jobs ({reason}): change --slurm, --partition or the requested "
        "resources"
    )
