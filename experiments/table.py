"""The paper's tables of our runs: `python -m experiments.table RUNS... [--format latex]`."""

import sys

from magmax_jax.cli.table import main
from magmax_jax.errors import exit_code

if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(sys.argv[1:])))
