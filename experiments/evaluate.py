"""Any checkpoint on any scenario: `python -m experiments.evaluate SOURCE ... [--scenario...]`."""

import sys

from magmax_jax.cli.evaluate import main
from magmax_jax.errors import exit_code

if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(sys.argv[1:])))
