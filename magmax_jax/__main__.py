"""`python -m magmax_jax` is the command `magmax`."""

import sys

from magmax_jax.cli.merge import main

if __name__ == "__main__":
    sys.exit(main())
