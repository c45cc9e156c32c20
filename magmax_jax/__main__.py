"""The command `magmax`, which is `python -m magmax_jax`: checkpoints in, a checkpoint out."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro
from flax import nnx
from rich.console import Console
from rich.progress import track

from magmax_jax.errors import UserError, exit_code
from magmax_jax.merging import merge, rules
from magmax_jax.models import CLIP


@dataclass(frozen=True)
class Merge:
    """Merges CLIP checkpoints that were fine-tuned from one into one that transformers loads."""

    pretrained: str
    """theta_0: hub id or directory."""
    finetuned: tuple[str, ...]
    """theta_1 ... theta_T in the order of their tasks: hub ids or directories."""
    output: Path
    """Directory to write; it appears whole or not at all."""
    rule: str = "max_magnitude"
    """max_magnitude, average, ties, ...: a name of magmax_jax.rules."""
    scale: float | None = None
    """lambda in theta_0 + lambda tau; none means the rule's published default."""
    seed: int = 0
    """Of rules that draw."""

    def __call__(self) -> None:
        rule = rules.named(self.rule, self.seed)
        if not self.finetuned:
            raise UserError("--finetuned names no models to merge: give at least one")
        model = CLIP.from_pretrained(self.pretrained)
        theta_0 = nnx.state(model, nnx.Param)
        nnx.update(model, merge(theta_0, self._models(model), rule, self.scale))
        model.save_pretrained(self.output)
        scale = rule.default_scale if self.scale is None else self.scale
        print(f"{self.output}: {self.rule} of {len(self.finetuned)} models at scale {scale:g}")

    def _models(self, pretrained: CLIP) -> Iterator[nnx.State]:
        console = Console(stderr=True)
        for source in track(
            self.finetuned, "merging", console=console, disable=not console.is_terminal
        ):
            model = CLIP.from_pretrained(source)
            if model.config != pretrained.config:
                raise UserError(f"{source} is another architecture than {self.pretrained}")
            yield nnx.state(model, nnx.Param)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line `argv` (the process's own by default) and returns its exit code."""
    commands = {"merge": Merge}

    def command() -> None:
        tyro.extras.subcommand_cli_from_dict(commands, prog="magmax", args=argv)()

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
