"""The program `magmax`: finds the command and runs it."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from magmax_jax.errors import MAGMAX, Program, exit_code
from magmax_jax.registry import COMMANDS

USAGE = """\
usage: {program}COMMAND ...

commands
{commands}
{program}COMMAND --help shows what a command takes."""


def main(argv: Sequence[str] | None = None, program: Program = MAGMAX) -> int:
    """Runs a command line and returns its exit code (see `errors.exit_code`).

    Args:
      argv: a command's name and its arguments; the process's own by default.
      program: how the user started it, for messages.

    Raises:
      SystemExit: flags of a command are wrong, or help on it was asked for.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(usage(program))
        return 0
    name, *rest = words
    return exit_code(lambda: COMMANDS[name].main(rest, program), program)


def usage(program: Program) -> str:
    """Every command with what it does."""
    commands = "".join(f"  {name:<10}{found.summary}\n" for name, found in COMMANDS.items())
    return USAGE.format(program=program.prefix, commands=commands)


def launch(argv: Sequence[str] | None = None, program: Program = MAGMAX) -> NoReturn:
    """Runs a command line as `main` does, and ends the process with its exit code.

    A file that registers things of its own ends with this call to be a program that knows them:

        launch(program=Program("python mine.py "))
    """
    words = list(sys.argv[1:] if argv is None else argv)
    command = COMMANDS[words[0]] if words and words[0] in COMMANDS else None
    if command is None or not command.abandons_threads:
        sys.exit(main(words, program))
    try:
        code = main(words, program)
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
