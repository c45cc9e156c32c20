"""Flags: a wrong value gives a one-sentence error, and messages show flags instead of fields."""

import contextlib
import functools
import io
import re
import sys
import typing
from collections.abc import Mapping
from typing import Any

import tyro

from magmax_jax.errors import UserError


def parse(kind: type, argv: list[str], **options: Any) -> Any:
    """`tyro.cli`, but a value that the dataclass itself refuses raises its own UserError.

    tyro would print such an error in a box headed by the dataclass's module path.

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
      message: of a `ConfigError`. A field name without a dot is replaced only at the beginning,
        where it cannot be an ordinary word.
      renamed: flags of fields for which a command has a different one.
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
    from magmax_jax.config import ExperimentConfig, SweepConfig
    from magmax_jax.config.changes import field_names

    fields = [*field_names(ExperimentConfig), *field_names(SweepConfig, "sweep.")]
    dotted = "|".join(re.escape(name) for name in fields if "." in name)
    plain = "|".join(name for name in fields if "." not in name)
    value = r"(?:=(?P<value>[^\s,:;)]+))?"
    return re.compile(rf"(?<![\w./-])(?P<name>(?:{dotted})|^(?:{plain}))(?![\w/-]){value}")


class _Held(io.StringIO):
    """Buffers what is written. It claims to be a terminal if it replaces one, to keep colours."""

    def __init__(self, stream: typing.TextIO):
        super().__init__()
        self._stream = stream

    def isatty(self) -> bool:
        return self._stream.isatty()
