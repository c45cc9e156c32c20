"""Many experiments: `python -m experiments.grid NAME [options] [--field value ...]`."""

import sys

from magmax_jax.cli.grid.command import main
from magmax_jax.errors import exit_code

if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(sys.argv[1:])))
