"""Flags: parsed with one sentence for a wrong value, and shown in messages in place of fields."""

import contextlib
import functools
import io
import re
import sys
import typing
from collections.abc import Mapping
from typing import Any

import tyro

from magmax_jax.config import ExperimentConfig, SweepConfig
from magmax_jax.config.changes import field_names
from magmax_jax.errors import UserError


def parse(kind: type, argv: list[str], **options: Any) -> Any:
    """`tyro.cli`, but a value that the dataclass itself refuses raises its own UserError.

    tyro prints such an error in a box that begins with the dataclass's place in ours.

    Args:
      options: further arguments of `tyro.cli`.

    Raises:
      UserError: a value is out of range.
      SystemExit: a flag is wrong (code 2), or help was asked for (code 0).
    """
    shown = _Held(sys.stderr)
    try:
        with contextlib.redirect_stderr(shown):
            return tyro.cli(kind, args=argv, **options)
    except SystemExit as ending:
        cause: BaseException | None = ending
        while cause is not None:
            if isinstance(cause, UserError):
                raise cause from None
            cause = cause.__context__
        sys.stderr.write(shown.getvalue())
        raise


def with_flags(message: str, renamed: Mapping[str, str] | None = None) -> str:
    """A message that names fields of the configuration, with flags in place of the fields.

    >>> with_flags("train.batch_size is 3: pass scenario.allow_unequal=True")
    '--train.batch-size is 3: pass --scenario.allow-unequal'
    >>> with_flags("seed is -1, method.sequential=False, scenario.num_tasks=3")
    '--seed is -1, --method.no-sequential, --scenario.num-tasks 3'

    Args:
      message: of a `ConfigError`. A field without a dot in its name counts at the beginning only,
        where it cannot be a word of the sentence.
      renamed: fields for which a command has another flag.
    """

    def flag(match: re.Match[str]) -> str:
        name, value = match["name"], match["value"]
        *part, last = name.split(".")
        if value in ("True", "False"):
            words = [*part, last if value == "True" else f"no-{last}"]
            return "--" + ".".join(words).replace("_", "-")
        shown = (renamed or {}).get(name, f"--{name}".replace("_", "-"))
        return shown if value is None else f"{shown} {value}"

    return re.sub(_pattern(), flag, message)


@functools.cache
def _pattern() -> re.Pattern[str]:
    fields = [*field_names(ExperimentConfig), *field_names(SweepConfig, "sweep.")]
    dotted = "|".join(re.escape(name) for name in fields if "." in name)
    plain = "|".join(name for name in fields if "." not in name)
    value = r"(?:=(?P<value>[^\s,:;)]+))?"
    return re.compile(rf"(?<![\w./-])(?P<name>(?:{dotted})|^(?:{plain}))(?![\w/-]){value}")


class _Held(io.StringIO):
    """Keeps what is written. It passes for a terminal where it replaces one, for the colours."""

    def __init__(self, stream: typing.TextIO):
        super().__init__()
        self._stream = stream

    def isatty(self) -> bool:
        return self._stream.isatty()
