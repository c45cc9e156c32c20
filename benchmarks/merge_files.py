"""`benchmarks.merge files`: checkpoints, ours and others, side by side on the same files."""

import contextlib
import dataclasses
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.checkpoints import make_checkpoints
from benchmarks.choosing import check_positive, matching
from benchmarks.contenders import contenders
from benchmarks.machine import absences, describe, peers_python
from benchmarks.measuring import Limits, Run
from benchmarks.output import Output
from benchmarks.rounds import run_round
from benchmarks.tables import COLUMNS, markdown, merge_rows


@dataclass(frozen=True)
class Files:
    """Times every contender as a whole process and prints a table for each number of models."""

    models: tuple[int, ...] = (2, 8, 20)
    """How many fine-tuned models are merged."""
    repeats: int = 5
    """Runs of every contender, in turn with those of all others."""
    size: Literal["vit-b16", "small", "tiny"] = "vit-b16"
    """CLIP ViT-B/16, 149.6 M parameters; the others are for trials."""
    seed: int = 0
    """Of the checkpoints."""
    work: Path | None = None
    """Directory for checkpoints, which are used again, and outputs (default: a temporary one)."""
    peers: Path = Path(sys.executable)
    """The python of the peers' environment (requirements-peers.txt)."""
    only: tuple[str, ...] = ("*",)
    """Shell patterns of contenders' names."""
    memory_limit: float = 20.0
    """GB of private memory; a contender that takes more is ended."""
    once_over: float = 60.0
    """Seconds; a contender that takes longer is run once, whatever `repeats` says."""
    time_limit: float = 900.0
    """Seconds; a contender that takes longer is ended."""
    output: Path | None = None
    """File for the tables; every single run goes into a .jsonl beside it."""


def run(settings: Files) -> None:
    """Prints the tables, and writes them.

    Raises:
      UserError: `peers` cannot be run, nobody is called so, or a number is not positive.
    """
    check_positive(
        {
            "--models": settings.models,
            "--repeats": settings.repeats,
            "--memory-limit": settings.memory_limit,
            "--time-limit": settings.time_limit,
        }
    )
    peers = peers_python(settings.peers)
    chosen = matching(contenders(peers), settings.only)
    absent = absences(peers, chosen)
    present = [c for c in chosen if c.name not in absent]
    description = describe(peers) | {
        "checkpoints": f"{settings.size}, float32, seed {settings.seed}",
        "limits": f"{settings.memory_limit:g} GB of private memory, {settings.time_limit:g} s",
    }
    output = Output(settings.output, description)
    with contextlib.ExitStack() as stack:
        base = settings.work or stack.enter_context(tempfile.TemporaryDirectory())
        work = Path(base).resolve()
        paths = make_checkpoints(work, settings.size, max(settings.models), settings.seed)
        outputs = stack.enter_context(tempfile.TemporaryDirectory(prefix="outputs-", dir=work))
        limits = Limits(settings.memory_limit * 1e9, settings.time_limit)
        for models in settings.models:

            def told(name: str, repeat: int, run: Run, models: int = models) -> None:
                row = {"models": models, "contender": name, "repeat": repeat}
                line = f"{models} models, {name}: {run.seconds:.2f} s, {run.outcome}"
                print(line, file=sys.stderr, flush=True)
                output.record(row | dataclasses.asdict(run))

            of_these, to = paths[: models + 1], Path(outputs) / str(models)
            done = run_round(
                present, of_these, to, settings.repeats, limits, settings.once_over, told
            )
            rows = merge_rows(chosen, done.runs, absent, done.differences)
            table = markdown(COLUMNS, rows)
            output.show(f"## {models} models\n\n{table}")
