"""What a user asks `magmax merge` for, and the story that it begins or continues."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from magmax_jax.errors import UserError
from magmax_jax.files import state
from magmax_jax.files.state import Story
from magmax_jax.storage.tensors import TensorFiles
from magmax_jax.storage.writing import SHARD_BYTES


@dataclass(frozen=True)
class Request:
    """What is to be merged, and how."""

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


def begin(request: Request) -> tuple[Story, TensorFiles | None]:
    """The story so far and the state that tells it, or a new story.

    Raises:
      UserError: the request contradicts the state, or lacks what a new story needs.
    """
    if request.state and request.state.exists():
        story, files = state.read_state(request.state)
        for flag, given, known in (
            ("--rule", request.rule, story.rule),
            ("--options", request.options or None, story.options),
            (
                "--pretrained",
                request.pretrained and _absolute(request.pretrained),
                story.pretrained,
            ),
        ):
            if given is not None and given != known:
                raise UserError(f"{flag} is {given}, but {request.state} was begun with {known}")
        return story, files
    if request.pretrained is None:
        raise UserError("--pretrained names no theta_0: without a state there is no other source")
    if not request.finetuned:
        raise UserError("--finetuned names no models to merge: give at least one")
    rule = request.rule or "max_magnitude"
    return Story(rule, request.options, request.seed, _absolute(request.pretrained), None), None


def _absolute(source: str) -> str:
    """A path from wherever it is read again; a hub id stays what it is."""
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source
