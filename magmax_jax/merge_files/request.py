"""What a user asks `magmax merge` for, and the story that it begins or continues."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin

from magmax_jax.errors import UserError
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.io.safetensors.writer import SHARD_BYTES
from magmax_jax.merge_files import state
from magmax_jax.merge_files.state import Story
from magmax_jax.merging import rules


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
        options = _options(story.rule, request.options)
        pretrained = request.pretrained and _absolute(request.pretrained)
        for flag, given, known in (
            ("--rule", request.rule, story.rule),
            ("--options", options or None, story.options),
            ("--pretrained", pretrained, story.pretrained),
        ):
            if given is not None and given != known:
                raise UserError(f"{flag} is {given}, but {request.state} was begun with {known}")
        return story, files
    if request.pretrained is None:
        raise UserError("--pretrained names no theta_0: without a state there is no other source")
    if not request.finetuned:
        raise UserError("--finetuned names no models to merge: give at least one")
    rule = request.rule or "max_magnitude"
    options = _options(rule, request.options)
    return Story(rule, options, request.seed, _absolute(request.pretrained), None), None


def weight_problems(request: Request, story: Story) -> list[str]:
    """A problem if `weighted_average` has not one weight for each model.

    Only a state may have more of them, for the tasks to come.
    """
    tasks = len(story.tasks) + len(request.finetuned)
    count = len(story.options["weights"]) if story.rule == "weighted_average" else tasks
    if request.state and count < tasks:
        return [
            f"{request.state} has {count} weights for {tasks} tasks, which it keeps as it was "
            "begun: begin another state with a weight for each task to come"
        ]
    if not request.state and count != tasks:
        return [f"--options: weights has {count} values for {tasks} models: give one for each"]
    return []


def _options(rule: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options as the rule takes them: also a single value, where it takes several, is a tuple.

    Raises:
      UserError: there is no such rule.
    """
    known = rules.options(rule)
    parameters = inspect.signature(rules.RULES[rule]).parameters

    def takes_several(name: str) -> bool:
        kind = parameters[name].annotation if name in known else None
        return any(get_origin(part) is Sequence for part in (kind, *get_args(kind)))

    return {
        name: (value,) if takes_several(name) and not isinstance(value, tuple) else value
        for name, value in given.items()
    }


def _absolute(source: str) -> str:
    """A path from wherever it is read again, its `:MODEL` too; a hub id stays what it is."""
    path, colon, model = source.partition(":")
    if Path(source).expanduser().exists():
        path, colon, model = source, "", ""
    path = Path(path).expanduser()
    return f"{path.resolve()}{colon}{model}" if path.exists() else source
