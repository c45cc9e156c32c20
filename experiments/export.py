"""A run's model as a Hugging Face directory: `python -m experiments.export RUN --output DIR`."""

import sys

from magmax_jax.cli.export import main
from magmax_jax.errors import exit_code

if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(sys.argv[1:])))
