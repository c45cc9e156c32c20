"""Names of a run's models: `finetuned`, `zero_shot`, `task:3`, `RULE@SCALE`, and `RUN:MODEL`."""

import math
from dataclasses import dataclass
from pathlib import Path

from magmax_jax.errors import ConfigError
from magmax_jax.runs.file_names import CHECKPOINTS, CONFIG

ZERO_SHOT, FINETUNED = "zero_shot", "finetuned"
_TASK = "task:"


@dataclass(frozen=True)
class ModelRef:
    """One of a run's models.

    >>> ModelRef.parse("max_magnitude@0.5")
    ModelRef(name='max_magnitude', scale=0.5, task=None)
    >>> str(ModelRef.parse("task:3"))
    'task:3'
    >>> ModelRef.parse("ema+lda@1").rule, ModelRef.parse("ema+lda@1").refit
    ('ema', 'lda')
    """

    name: str
    """`finetuned`, after the last task learned; `zero_shot`, theta_0; `task`; or a merge rule,
    optionally followed by + and a refit. A rule `module:function` cannot be mistaken for `task:3`:
    no function's name is a number."""
    scale: float | None = None
    """lambda of a merge; None for the rule's default scale."""
    task: int | None = None
    """The task, counted from 1, after which a `task` model was kept."""

    @classmethod
    def parse(cls, text: str, where: str = "") -> "ModelRef":
        """Parses a name as users write it. Does not check that the rule exists.

        Args:
          where: prefix of the error message, e.g. the name of a field.

        Raises:
          ConfigError: the scale after @ is not a finite number.
        """
        if text.startswith(_TASK) and text.removeprefix(_TASK).isdecimal():
            return cls("task", task=int(text.removeprefix(_TASK)))
        name, at, number = text.partition("@")
        if not at:
            return cls(name)
        before = f"{where}: " if where else ""
        try:
            scale = float(number)
        except ValueError:
            raise ConfigError(f"{before}{text!r} needs a number after the @") from None
        if not math.isfinite(scale):
            raise ConfigError(f"{before}the scale of {text!r} is not finite: give a number")
        return cls(name, scale)

    def __str__(self) -> str:
        if self.task is not None:
            return f"{_TASK}{self.task}"
        if self.scale is None:
            return self.name
        short = f"{self.scale:g}"  # as in tables and files, if that is exact
        return f"{self.name}@{short if float(short) == self.scale else repr(self.scale)}"

    @property
    def rule(self) -> str:
        """The rule's name of a merge: the part before +, if any."""
        return self.name.partition("+")[0]

    @property
    def refit(self) -> str | None:
        """The refit of a merge, `lda` in `ema+lda`; None if it is not refitted."""
        return self.name.partition("+")[2] if "+" in self.name else None

    @property
    def is_zero_shot(self) -> bool:
        return self == ModelRef(ZERO_SHOT)

    @property
    def is_finetuned(self) -> bool:
        """Whether this is the unmerged model after the last task learned."""
        return self == ModelRef(FINETUNED)

    @property
    def is_merge(self) -> bool:
        return not (self.is_zero_shot or self.is_finetuned or self.task is not None)


def model_of_run(source: str) -> tuple[Path, ModelRef] | None:
    """The run directory and model that `RUN` or `RUN:MODEL` names; None for anything else.

    The default model is `finetuned`. Paths and names may contain colons: the longest path that is
    a run's directory is the run, the rest is the model.

    Raises:
      UserError: as `ModelRef.parse` does.
    """
    words = source.split(":")  # task:3 contains a colon, and so may a path
    named = [(":".join(words[:i]), ":".join(words[i:])) for i in range(len(words) - 1, 0, -1)]
    for directory, name in ((source, FINETUNED), *named):
        run = Path(directory).expanduser()
        if directory and (run / CONFIG).is_file() and (run / CHECKPOINTS).is_dir():
            return run, ModelRef.parse(name, directory)
    return None


def absolute(source: str) -> str:
    """`RUN:MODEL` with an absolute path; other sources are unchanged.

    Raises:
      UserError: as `model_of_run` does.
    """
    found = model_of_run(source)
    if found is None or found[0] == Path(source).expanduser():
        return source
    return f"{found[0].resolve()}:{found[1]}"
