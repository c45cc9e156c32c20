"""A user's request to `magmax merge`."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from magmax_jax.errors import UserError
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.io.safetensors.writer import SHARD_BYTES
from magmax_jax.merge_files.recipes.read import Recipe
from magmax_jax.merge_files.state import MergeHistory, read_state
from magmax_jax.registry import RULES

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
    recipe: Recipe | None = None
    """Takes the place of the rule, its options and the scale."""

    @property
    def wider(self) -> str:
        """How the user gets a wider dtype: "... bfloat16" can follow."""
        return "out_dtype in the recipe:" if self.recipe else "--out-dtype"

    @property
    def smaller(self) -> str:
        """How the user gets a result nearer to theta_0."""
        return "smaller weights in the recipe" if self.recipe else "a --scale closer to 0"


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
    if job.recipe is not None:
        return _of_recipe(job, job.recipe), None
    if job.state and job.state.exists():
        history, files = read_state(job.state)
        if job.rule is None and RULES.names_code(history.rule):
            raise UserError(
                f"{job.state} was created with {history.rule}, and a file must not decide which "
                f"module is imported: confirm it with --rule {history.rule}"
            )
        if job.rule not in (None, history.rule):
            raise UserError(
                f"--rule is {job.rule}, but {job.state} was created with {history.rule}"
            )
        options = _options(history.rule, job.options)
        pretrained = job.pretrained and absolute(job.pretrained)
        for flag, given, known in (
            ("--options", options or None, history.options),
            ("--pretrained", pretrained, history.pretrained),
        ):
            if given is not None and given != known:
                raise UserError(f"{flag} is {given}, but {job.state} was created with {known}")
        return history, files
    given = job.pretrained or (NO_MODEL if job.lora_rank is not None else None)
    if job.state and not (given and job.finetuned):
        raise UserError(
            f"{job.state}: there is no such state file; to start one there, give theta_0 as "
            "--pretrained and the first models as --finetuned"
        )
    if given is None:
        raise UserError(
            "--pretrained is missing: only a state file records theta_0, and only LoRA adapters "
            "are merged without it, into an adapter with --lora-rank"
        )
    if not job.finetuned:
        raise UserError("--finetuned is missing: name at least one model to merge")
    rule = job.rule or DEFAULT_RULE
    RULES.check(rule)
    history = MergeHistory(
        rule=rule,
        options=_options(rule, job.options),
        seed=job.seed,
        pretrained=absolute(given),
        sha256=None,
    )
    return history, None


def from_recipe(recipe: Recipe, job: Job) -> Job:
    """The job with what the recipe says.

    Raises:
      UserError: the job says itself what a recipe does.
    """
    given = {
        "--pretrained": job.pretrained,
        "--finetuned": job.finetuned,
        "--rule": job.rule,
        "--scale": job.scale,
        "--options": job.options,
        "--out-dtype": job.out_dtype,
        "--state": job.state,
        "--lora-rank": job.lora_rank,
    }
    if said := [flag for flag, value in given.items() if value not in (None, (), {})]:
        raise UserError(
            f"{recipe.path} is a recipe, which already says what is merged and how: leave out "
            f"{', '.join(said)}, or set them in the recipe"
        )
    return replace(
        job,
        recipe=recipe,
        pretrained=recipe.theta_0,
        finetuned=recipe.models,
        out_dtype=recipe.out_dtype,
    )


def _of_recipe(job: Job, recipe: Recipe) -> MergeHistory:
    return MergeHistory(
        rule=f"mergekit {recipe.method_name}",
        options={},
        seed=job.seed,
        pretrained=absolute(recipe.theta_0),
        sha256=None,
    )


def _options(rule: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options in the form the rule takes: a single value becomes a tuple if it takes several.

    Raises:
      UserError: there is no such rule.
    """
    if not given:
        return {}
    from magmax_jax.merging import rules  # slow: imports every rule

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
