"""One experiment: `python -m experiments.run PRESET [--field value ...]`."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments.presets import PRESETS
from magmax_jax.config import ExperimentConfig
from magmax_jax.errors import DivergedError, UserError


@dataclass(frozen=True)
class Launch:
    """A configuration and where its run is written."""

    config: Annotated[ExperimentConfig, tyro.conf.arg(name="")]
    out: Path | None = None
    """Directory of the run (default: runs/PRESET)."""
    overwrite: bool = False
    """Replace the run that lies there."""


def main(argv: list[str]) -> None:
    launch = parse(argv)
    print(launch)


if __name__ == "__main__":
    main(sys.argv[1:])
