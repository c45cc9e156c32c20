"""How far runs are: `python -m experiments.watch RUN [RUN ...]`."""

import sys

from magmax_jax.cli.watch import main
from magmax_jax.errors import exit_code

if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(sys.argv[1:])))
