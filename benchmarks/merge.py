"""Merging: checkpoints as files, ours and others side by side, and task vectors in memory.

python -m benchmarks.merge files --peers PYTHON --output files.md
python -m benchmarks.merge memory --peers PYTHON --output memory.md
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from benchmarks import merge_files, merge_memory
from magmax_jax.errors import exit_code

Settings = (
    Annotated[merge_files.Files, tyro.conf.subcommand("files")]
    | Annotated[merge_memory.Memory, tyro.conf.subcommand("memory")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status; without a command, the flags are explained and it is 2."""
    settings = tyro.cli(Settings, args=argv, prog="benchmarks.merge", description=__doc__)
    run = merge_files.run if isinstance(settings, merge_files.Files) else merge_memory.run
    return exit_code(lambda: run(settings))


if __name__ == "__main__":
    sys.exit(main())
