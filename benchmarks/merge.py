"""Merging: checkpoints as files, ours and others side by side, and task vectors in memory.

python -m benchmarks.merge files --peers PYTHON --output files.md
python -m benchmarks.merge memory --peers PYTHON --output memory.md
"""

import sys
from typing import Annotated

import tyro

from benchmarks import merge_files, merge_memory
from benchmarks.flags import command
from benchmarks.merge_files import Files
from benchmarks.merge_memory import Memory

Settings = (
    Annotated[Files, tyro.conf.subcommand("files")]
    | Annotated[Memory, tyro.conf.subcommand("memory")]
)


def run(settings: Files | Memory) -> None:
    (merge_files if isinstance(settings, Files) else merge_memory).run(settings)


main = command(Settings, run, "benchmarks.merge", __doc__)

if __name__ == "__main__":
    sys.exit(main())
