"""Flags that benchmarks share, and their validation."""

import dataclasses
import fnmatch
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import tyro

from magmax_jax.cli.streams import run_quietly
from magmax_jax.errors import UserError, exit_code

Named = TypeVar("Named")


@dataclass(frozen=True, kw_only=True)
class Flags:
    repeats: int = 5
    """Timed calls per measurement; the table shows their median."""
    output: Path | None = None
    """File for the tables; every call is recorded in a .jsonl beside it."""


@dataclass(frozen=True, kw_only=True)
class PeersFlags(Flags):
    peers: Path = Path(sys.executable)
    """The python of the peers' environment (requirements-peers.txt)."""
    only: tuple[str, ...] = ("*",)
    """Shell patterns of contenders' names."""


@dataclass(frozen=True, kw_only=True)
class BeforeFlags(Flags):
    before: Path | None = None
    """A checkout of another version of this repository, which takes part as `before: NAME`."""


def command(
    settings: Any, run: Callable[[Any], None], prog: str, description: str | None
) -> Callable[[Sequence[str] | None], int]:
    """The `main` of a benchmark: its exit code, 2 and one sentence for a mistake.

    Args:
      settings: the class of its flags.
      run: measures and shows the results.
    """

    def main(argv: Sequence[str] | None = None) -> int:
        def measure() -> int:
            given = tyro.cli(settings, args=argv, prog=prog, description=description)
            return exit_code(lambda: run(checked(given)))

        return run_quietly(measure)

    return main


def checked(settings: Named) -> Named:
    """The settings with absolute paths of the peers' python and the other checkout.

    Raises:
      UserError: a number is not positive, the peers' python cannot be run, or the other checkout
        is not one of this repository.
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        for number in value if isinstance(value, tuple) else [value]:
            zero = number == 0 and field.name != "workers"
            if type(number) in (int, float) and (number < 0 or zero):
                flag = field.name.replace("_", "-")
                raise UserError(f"--{flag}: {number} is not positive")
    if isinstance(settings, BeforeFlags) and settings.before is not None:
        checkout = settings.before.resolve()
        if not (checkout / "magmax_jax" / "__init__.py").is_file():
            raise UserError(f"--before: {checkout} contains no magmax_jax: give a checkout of it")
        settings = dataclasses.replace(settings, before=checkout)
    if not isinstance(settings, PeersFlags):
        return settings
    # Not resolved: the symlink is what makes it the environment's python.
    python = settings.peers.absolute()
    if not (python.is_file() and os.access(python, os.X_OK)):
        raise UserError(
            f"--peers: {python} is not a Python that can be run: give the one of the peers' "
            "environment"
        )
    return dataclasses.replace(settings, peers=python)


def matching(
    field: Iterable[Named],
    patterns: Sequence[str],
    name: Callable[[Named], str] = attrgetter("name"),
) -> list[Named]:
    """Those whose name matches one of the shell patterns (case-sensitive), in their given order.

    Raises:
      UserError: none matches; the message lists the existing names.
    """
    every = {name(one): one for one in field}
    found = [one for n, one in every.items() if any(fnmatch.fnmatchcase(n, p) for p in patterns)]
    if not found:
        asked = " or ".join(patterns) or "nothing"
        raise UserError(f"--only: nothing is named {asked}, there are: {', '.join(every)}")
    return found
