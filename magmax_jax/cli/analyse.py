"""Studies of finished runs: `magmax analyse RUN ... [--only signs pruning]`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from magmax_jax.cli import flags
from magmax_jax.cli.command import Command
from magmax_jax.cli.engine import Engine
from magmax_jax.config import MeshConfig
from magmax_jax.errors import MAGMAX, Program, UserError
from magmax_jax.registry import COMMANDS


@dataclass(frozen=True)
class Analyse:
    """Studies what a run kept, and writes RUN/analysis/NAME.jsonl, which the report shows.

    signs, norms, similarity, provenance (of the task vectors), transfer (to future tasks, to other
    data sets), alignment (CKA of features), contribution (a task left out of the merge), pruning
    (a share of each task vector), overhead (seconds and bytes). Most need every task's model: run
    with --checkpoint.keep-tasks.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Runs that have learned at least one task."""
    only: tuple[str, ...] = ()
    """Studies to make; all if none are named."""
    exclude: tuple[str, ...] = ()
    """Patterns of parameters, by Hugging Face's names, to leave out where task vectors themselves
    are compared: '*position_embedding*' '*pre_layrnorm*'."""
    transfer_to: tuple[str, ...] = ()
    """Further data sets for transfer: names, or folder:DIR."""
    data_dir: str | None = None
    """Directory of those data sets; not set: the run's."""
    again: bool = False
    """Repeat studies that already exist."""
    allow_changed: bool = False
    """Continue even if the files of a run's model or data have changed."""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    engine: Annotated[Engine, tyro.conf.arg(name="")] = field(default_factory=Engine)


def main(argv: list[str], program: Program = MAGMAX) -> None:
    """Runs the studies that the command line names."""
    chosen = flags.parse(Analyse, argv, prog=program.line("analyse"))
    if not chosen.runs:
        raise UserError("no RUN is given: name directories of runs")
    chosen.engine.start()
    import jax

    from magmax_jax.runs.directory import RunDirectory
    from magmax_jax.runs.model_ref import model_of_run
    from magmax_jax.runs.progress import NullProgress, TerminalProgress
    from magmax_jax.runs.studies import STUDIES, study

    first = jax.process_index() == 0
    progress = TerminalProgress() if first else NullProgress()
    for run in chosen.runs:
        if model_of_run(str(run)) is None:
            raise UserError(f"{run} is not a run directory: give the directory of a run")
        study(
            RunDirectory(run, writes=first),
            chosen.only or tuple(STUDIES),
            progress,
            chosen.exclude,
            chosen.transfer_to,
            chosen.data_dir,
            chosen.again,
            chosen.mesh,
            chosen.allow_changed,
        )


COMMANDS.register(
    "analyse",
    Command(
        "Studies finished runs: sign conflicts, transfer, costs.",
        main,
        flags={"scenario.datasets": "--transfer-to", "scenario.data_dir": "--data-dir"},
    ),
)
