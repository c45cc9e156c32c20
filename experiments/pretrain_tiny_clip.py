"""Trains the bundled small CLIP again: `python -m experiments.pretrain_tiny_clip`."""

import sys

from magmax_jax.cli.streams import run_quietly
from magmax_jax.errors import exit_code
from tools.tiny_clip.command import main

if __name__ == "__main__":
    sys.exit(run_quietly(lambda: exit_code(main)))
