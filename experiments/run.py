"""One experiment: `python -m experiments.run PRESET [--field value ...]`."""

import sys

from magmax_jax.cli.run import main
from magmax_jax.errors import exit_code

if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(sys.argv[1:])))
