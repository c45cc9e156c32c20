"""Cells as jobs on this machine, several at a time."""

import os
import signal
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

VISIBLE = "CUDA_VISIBLE_DEVICES"
A_YEAR = 60 * 24 * 365


def run_local(
    cells: Sequence[Cell],
    folder: Path,
    job_of: Callable[[Cell, one.Env], Job],
    at_once: int = 1,
    gpus: int | None = None,
) -> dict[Cell, one.Outcome]:
    """Runs the cells; after the first signal, running jobs save and no new ones start.

    Args:
      folder: of the jobs' output.
      job_of: makes the job of a cell, given its environment.
      at_once: number of concurrent jobs.
      gpus: per job; None lets every job see all GPUs.

    Raises:
      UserError: fewer GPUs are available here than all jobs need together.
      Interrupted: the process was asked to stop; the jobs have saved.
    """
    with submitit_in(folder) as submitit:
        executor = submitit.AutoExecutor(folder, "local", local_max_num_timeout=REQUEUES)
        executor.update_parameters(timeout_min=A_YEAR)
    slots, waiting = list(range(at_once)), list(cells)
    running: dict[Cell, tuple[Any, int]] = {}
    outcomes: dict[Cell, one.Outcome] = {}
    with signals_noted() as stop:
        passed_on = 0
        while running or (waiting and not stop):
            while waiting and slots and not stop:
                cell, slot = waiting.pop(0), slots.pop(0)
                task = job_of(cell, visible_gpus(slot, at_once, gpus))
                # Otherwise Ctrl-C would reach submitit, which gives jobs one second to exit.
                noting = signal.signal(signal.SIGINT, signal.SIG_IGN)
                job = executor.submit(task)
                signal.signal(signal.SIGINT, noting)
                running[cell] = job, slot
                print(f"{cell.name}: {job.paths.stdout}", flush=True)
            if len(stop) != passed_on:
                passed_on = len(stop)
                for job, _ in running.values():
                    os.kill(int(job.job_id), signal.SIGTERM)
            for cell, (job, slot) in list(running.items()):
                if job.done():
                    outcomes[cell] = outcome_of(job)
                    slots.append(slot)
                    del running[cell]
                    print(f"{cell.name}: {in_words(outcomes[cell])}", flush=True)
            time.sleep(0.2)
    if stop:
        raise Interrupted(stop[0])
    return outcomes


def visible_gpus(slot: int, at_once: int, gpus: int | None) -> one.Env:
    """GPUs of a local job, out of those available here; without this, submitit hides them all.

    Args:
      slot: index of the job among the concurrent ones, from 0.

    Raises:
      UserError: fewer GPUs are available than all jobs need together.
    """
    given = os.environ.get(VISIBLE)
    if gpus is None:
        return {VISIBLE: given}
    needed = gpus * at_once
    ids = [*map(str, range(needed))] if given is None else [i for i in given.split(",") if i]
    if len(ids) < needed:
        raise UserError(
            f"{VISIBLE} is {given!r}, which is fewer than the {needed} GPUs that --jobs and "
            "--gpus-per-node take together: ask for fewer, or make more visible"
        )
    return {VISIBLE: ",".join(ids[slot * gpus : (slot + 1) * gpus])}
