"""Fixes up a command line's words before any command parses them.

A shell expands `~` only at the beginning of a word: not in `--out=~/x`, nor in `folder:~/x`. It
passes an unset variable as an empty word, which as a path would mean the current directory.
"""

import os
import re
from collections import Counter
from collections.abc import Collection, Sequence

from magmax_jax.errors import UserError

_VALUE = re.compile(r"(?P<before>(?:--[^=\s]+=)?(?:folder:)?)(?P<path>~[^/\s]*(?:/.*)?)", re.DOTALL)


def as_meant(words: Sequence[str]) -> list[str]:
    """The words with home directories in place of `~` and `~user`.

    `~` is expanded only at the beginning of a value, and after `folder:`.

    Raises:
      UserError: a word or a flag's value is empty, or there is no such user.
    """
    for before, word in zip(("", *words), words, strict=False):
        flag, equals, value = word.partition("=") if word.startswith("--") else (before, "", word)
        if not value and (equals or not word):
            what = f"{flag} has an empty value" if flag.startswith("--") else "a word is empty"
            raise UserError(f"{what}: set the shell's variable, or leave it out")
    return [_with_home(word) for word in words]


def given_again(words: Sequence[str], collected: Collection[str] = ()) -> list[str]:
    """A sentence for each repeated flag, of which only the last value counts.

    Args:
      collected: flags that may be repeated.
    """
    flags = [word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")]
    several = [flag for flag, count in Counter(flags).items() if count > 1]
    return [
        f"{flag} is given several times: only the last one counts"
        for flag in several
        if flag not in collected
    ]


def _with_home(word: str) -> str:
    found = _VALUE.fullmatch(word)
    if found is None:
        return word
    path = os.path.expanduser(found["path"])
    if path == found["path"] and "/" in path and not os.path.lexists(path):
        user = path.partition("/")[0][1:]
        raise UserError(
            f"{word}: there is no user {user} with a home directory here: write the path in full, "
            f"or ./{path} for a directory of that name"
        )
    return found["before"] + path
