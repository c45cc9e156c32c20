"""A user's request to `magmax merge`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from magmax_jax.errors import UserError
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.io.safetensors.writer import SHARD_BYTES
from magmax_jax.merge_files.state import MergeHistory, read_state
from magmax_jax.merging import rules

DEFAULT_RULE = "max_magnitude"
NO_MODEL = "none"
"""Stands for theta_0 if LoRA adapters are merged without the model that they change."""


@dataclass(frozen=True)
class Job:
    """What to merge, and how."""

    pretrained: str | None
    finetuned: tuple[str, ...]
    rule: str | None = None
    scale: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    out_dtype: str | None = None
    state: Path | None = None
    checksums: bool = True
    shard_bytes: int = SHARD_BYTES
    dequantise: bool = False
    companions_from: str | None = None
    lora_rank: int | None = None
    rename: tuple[str, ...] = ()


def begin(job: Job) -> tuple[MergeHistory, TensorFiles | None]:
    """The history so far and the state that holds it, or a new history.

    Raises:
      UserError: the job contradicts the state, or does not name the user's own rule (as
        `module:function`) that the state was started with, or lacks what a new history needs.
    """
    if job.lora_rank is not None and job.companions_from is not None:
        raise UserError(
            "--companions-from is for models, and --lora-rank writes an adapter, which has no "
            "companions: leave out one of them"
        )
    if job.state and job.state.exists():
        history, files = read_state(job.state)
        if job.rule is None and rules.RULES.names_code(history.rule):
            raise UserError(
                f"{job.state} was begun with {history.rule}, and a file does not decide which "
                f"module is imported: say so with --rule {history.rule}"
            )
        if job.rule not in (None, history.rule):
            raise UserError(f"--rule is {job.rule}, but {job.state} was begun with {history.rule}")
        options = _options(history.rule, job.options)
        pretrained = job.pretrained and absolute(job.pretrained)
        for flag, given, known in (
            ("--options", options or None, history.options),
            ("--pretrained", pretrained, history.pretrained),
        ):
            if given is not None and given != known:
                raise UserError(f"{flag} is {given}, but {job.state} was begun with {known}")
        return history, files
    given = job.pretrained or (NO_MODEL if job.lora_rank is not None else None)
    if job.state and not (given and job.finetuned):
        raise UserError(
            f"{job.state}: there is no such state file; to begin one there, give theta_0 as "
            "--pretrained and the first models as --finetuned"
        )
    if given is None:
        raise UserError(
            "--pretrained names no theta_0: only a state file records one, and only LoRA adapters "
            "are merged without one, into an adapter with --lora-rank"
        )
    if not job.finetuned:
        raise UserError("--finetuned names no models to merge: give at least one")
    rule = job.rule or DEFAULT_RULE
    history = MergeHistory(
        rule=rule,
        options=_options(rule, job.options),
        seed=job.seed,
        pretrained=absolute(given),
        sha256=None,
    )
    return history, None


def _options(rule: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options in the form the rule takes: a single value becomes a tuple if it takes several.

    Raises:
      UserError: there is no such rule.
    """
    return {
        name: (value,)
        if rules.takes_several(rule, name) and not isinstance(value, tuple)
        else value
        for name, value in given.items()
    }


def absolute(source: str) -> str:
    """A path made absolute; anything else, such as a hub id, is unchanged."""
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source
