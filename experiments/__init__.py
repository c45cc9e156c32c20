"""Launchers: in a checkout, `python -m experiments.run` is `magmax run`, and so on."""

import sys
from typing import NoReturn

from magmax_jax.cli.main import launch as _launch
from magmax_jax.errors import Program

PROGRAM = Program("python -m experiments.")


def launch(command: str) -> NoReturn:
    """Runs a command with the process's own arguments."""
    _launch([command, *sys.argv[1:]], PROGRAM)
