"""Studies of finished runs: `python -m experiments.analyse RUN ... [--only signs pruning]`."""

import sys

from magmax_jax.cli.analyse import main
from magmax_jax.errors import exit_code

if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(sys.argv[1:])))
