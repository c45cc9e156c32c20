"""Runs as one page: `python -m experiments.report RUN [RUN ...]`."""

import sys

from magmax_jax.cli.report import main
from magmax_jax.errors import exit_code

if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(sys.argv[1:])))
