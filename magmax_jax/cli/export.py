"""A run's model as a Hugging Face directory: `magmax export RUN --output DIR`."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from magmax_jax.cli.command import Command
from magmax_jax.cli.push import Push
from magmax_jax.errors import MAGMAX, Program
from magmax_jax.registry import COMMANDS


@dataclass(frozen=True)
class Export:
    """Writes one of a run's models as a directory that transformers loads."""

    run: tyro.conf.Positional[Path]
    """The run's directory."""
    output: Path
    """A new directory; it appears whole or not at all."""
    model: str = "finetuned"
    """finetuned (after the last task learned so far), zero_shot, RULE or RULE@SCALE of the run's
    merges, or task:3 of a run with --checkpoint.keep-tasks."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    allow_changed: bool = False
    """Continue even if the files of the run's pretrained model have changed."""
    push: Annotated[Push, tyro.conf.arg(name="")] = field(default_factory=Push)


def main(argv: list[str], program: Program = MAGMAX) -> None:
    """Writes the model that the command line names."""
    chosen = tyro.cli(Export, args=argv, prog=program.line("export"))
    upload = chosen.push.checked(chosen.output)
    from magmax_jax.api import export
    from magmax_jax.runs.export import unlearned

    export(chosen.run, chosen.output, chosen.model, chosen.dtype, chosen.allow_changed)
    print(f"{chosen.output}: {chosen.model} of {chosen.run}")
    if note := unlearned(chosen.run, chosen.model):
        print(f"note: {note}", file=sys.stderr)
    if upload:
        print(upload(chosen.output))


COMMANDS.register("export", Command("Writes a run's model as a directory for transformers.", main))
