"""The program `magmax`: finds the command and runs it."""

import os
import select
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from magmax_jax.cli.flags import with_flags
from magmax_jax.cli.signals import clean_up_on_signals
from magmax_jax.cli.utf8_mode import ensure_utf8_mode
from magmax_jax.errors import MAGMAX, ConfigError, Program, UserError, exit_code
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

    def run() -> None:
        command = COMMANDS[name]
        try:
            command.main(rest, program)
        except ConfigError as error:
            message = with_flags(str(error), command.flags)
            raise UserError(message, command=error.command) from None

    return exit_code(run, program)


def usage(program: Program) -> str:
    """Every command with what it does."""
    commands = "".join(f"  {name:<10}{found.summary}\n" for name, found in COMMANDS.items())
    return USAGE.format(program=program.prefix, commands=commands)


def launch(argv: Sequence[str] | None = None, program: Program = MAGMAX) -> NoReturn:
    """Runs a command line as `main` does, and ends the process with its exit code.

    A file that registers things of its own ends with this call to be a program that knows them:

        launch(program=Program("python mine.py "))
    """
    ensure_utf8_mode()
    words = list(sys.argv[1:] if argv is None else argv)
    command = COMMANDS[words[0]] if words and words[0] in COMMANDS else None
    clean_up_on_signals()
    try:
        try:
            code = main(words, program)
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
        sys.stdout.flush()
    except BrokenPipeError:
        if not _output_closed():
            raise
        code = 128 + signal.SIGPIPE
    sys.stderr.flush()
    if command is not None and command.abandons_threads:
        os._exit(code)
    sys.exit(code)


def _output_closed() -> bool:
    """Whether standard output is a pipe that its reader has closed, as `head` does.

    It is the null device afterwards: Python flushes what is left in the buffer when it ends.
    """
    output, poll = sys.stdout.fileno(), select.poll()
    poll.register(output, 0)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True
