"""The program `magmax`: finds the command and runs it."""

import gc
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from magmax_jax.cli.flags import with_flags
from magmax_jax.cli.signals import clean_up_on_signals
from magmax_jax.cli.streams import run_quietly
from magmax_jax.cli.utf8_mode import ensure_utf8_mode
from magmax_jax.cli.words import as_meant, given_again
from magmax_jax.errors import MAGMAX, ConfigError, Program, UserError, exit_code
from magmax_jax.packages import missing_extras_named
from magmax_jax.registry import COMMANDS

USAGE = """\
usage: {program}COMMAND ...

commands
{commands}
{program}COMMAND --help shows what a command takes."""


RARELY = (100_000, 20, 50)
"""Thresholds of the garbage collector. Importing JAX creates a million long-lived objects: at the
default thresholds, collections that find nothing take a quarter of the import time."""


def main(argv: Sequence[str] | None = None, program: Program = MAGMAX) -> int:
    """Runs a command line and returns its exit code (see `errors.exit_code`).

    Args:
      argv: a command's name and its arguments; the process's own by default.
      program: how the user started it, for messages.

    Raises:
      SystemExit: a command's flags are wrong, or its help was requested.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        return exit_code(lambda: print(usage(program)), program)
    name, *rest = words

    @missing_extras_named()
    def run() -> None:
        command = COMMANDS[name]
        argv = as_meant(rest)
        for note in given_again(argv, command.collected):
            print(f"note: {note}", file=sys.stderr)
        try:
            command.main(argv, program)
        except ConfigError as error:
            message = with_flags(str(error), command.flags)
            raise UserError(message, command=error.command) from None

    return exit_code(run, program)


def usage(program: Program) -> str:
    """Every command with its summary."""
    commands = "".join(f"  {name:<10}{found.summary}\n" for name, found in COMMANDS.items())
    return USAGE.format(program=program.prefix, commands=commands)


def launch(argv: Sequence[str] | None = None, program: Program = MAGMAX) -> NoReturn:
    """Runs a command line as `main` does, and exits with its exit code.

    A script that registers its own values (see `registry`) ends with this call:

        launch(program=Program("python mine.py "))
    """
    ensure_utf8_mode()
    gc.set_threshold(*RARELY)
    if not sys.warnoptions:  # Pillow's warnings name no file; our own messages do
        warnings.filterwarnings("ignore", module=r"PIL\.")
    words = list(sys.argv[1:] if argv is None else argv)
    command = COMMANDS[words[0]] if words and words[0] in COMMANDS else None
    clean_up_on_signals()
    code = run_quietly(lambda: main(words, program))
    if command is not None and command.abandons_threads:
        os._exit(code)
    gc.freeze()  # otherwise the interpreter's final collections traverse every module's objects
    sys.exit(code)
