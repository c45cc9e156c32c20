"""What is asked of the flags of every benchmark: a contender of that name, positive numbers."""

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeVar

from magmax_jax.errors import UserError

Named = TypeVar("Named")


def matching(
    field: Iterable[Named],
    patterns: Sequence[str],
    name: Callable[[Named], str] = attrgetter("name"),
) -> list[Named]:
    """Those whose name one of the shell patterns fits, capitals being told apart.

    Raises:
      UserError: there is none; the names that there are are told.
    """
    every = {name(one): one for one in field}
    found = [one for n, one in every.items() if any(fnmatch.fnmatchcase(n, p) for p in patterns)]
    if not found:
        asked = " or ".join(patterns) or "nothing"
        raise UserError(f"--only: nothing is called {asked}, there are: {', '.join(every)}")
    return found


def check_positive(flags: Mapping[str, Any]) -> None:
    """Numbers and sequences of them, by their flag; None, which is a default to come, is fine.

    Raises:
      UserError: a number is not positive.
    """
    for flag, value in flags.items():
        for number in value if isinstance(value, Sequence) else [value]:
            if number is not None and number <= 0:
                raise UserError(f"{flag}: {number} is not positive")
