"""Data sets, downloaded and prepared once: `python -m experiments.prepare NAME...|all`."""

import os
import sys

from magmax_jax.cli.prepare import main
from magmax_jax.errors import exit_code

if __name__ == "__main__":
    try:
        code = exit_code(lambda: main(sys.argv[1:]))
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    sys.stdout.flush()
    sys.stderr.flush()
    # Downloads run in threads, which Python would wait for after Ctrl-C, up to the last byte.
    os._exit(code)
