"""Models out of a run's directory, as checkpoints that transformers and `magmax merge` read."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flax import nnx

from magmax_jax.checkpoints import Checkpoints
from magmax_jax.config import ExperimentConfig
from magmax_jax.errors import UserError
from magmax_jax.merges import Merge, parse_merges
from magmax_jax.merging import merged
from magmax_jax.models import CLIP, num_entries
from magmax_jax.results import CHECKPOINTS, CONFIG, TASKS
from magmax_jax.sharding import one_device
from magmax_jax.standing import state_shapes
from magmax_jax.training import Params


def export(run: Path, model: str, output: Path, dtype: str = "float32") -> None:
    """Writes one of a run's models as a Hugging Face directory, the text tower included.

    Args:
      run: the run's directory.
      model: `finetuned` (after the last task learned so far), `task:3` (after that task, if the run
        keeps every task's), `zero_shot` (theta_0 at the run's image size), or one of the run's
        merges, `RULE` or `RULE@SCALE` at any scale.
      output: a new directory; it appears whole or not at all.
      dtype: of the weights, "float32", "float16" or "bfloat16".

    Raises:
      UserError: the run has no such model or no checkpoint, or the disk refuses.
    """
    config = ExperimentConfig.from_file(run / CONFIG)
    read = _reader(run, model, config)
    clip = CLIP.from_pretrained(config.model.source, config.model.image_size)
    _, theta_0 = clip.image_tower("float32")
    nnx.update(clip.vision, read(theta_0, num_entries(clip)))
    clip.save_pretrained(output, dtype)


def _reader(run: Path, model: str, config: ExperimentConfig) -> Callable[[Params, int], Params]:
    """What takes theta_0 and the number of CLIP's entries and gives the model's parameters.

    Raises:
      UserError: at once if the run cannot hold such a model, later if it does not.
    """
    kind, _, number = model.partition(":")
    name = model.partition("@")[0]
    merges = parse_merges(config)
    if model == "zero_shot":
        return lambda theta_0, entries: theta_0
    if model == "finetuned":
        return lambda theta_0, entries: _restore(run / CHECKPOINTS, theta_0, {})["finetuned"]
    if kind == "task" and number.isdigit():
        task = int(number)
        return lambda theta_0, entries: _restore(run / TASKS, theta_0, {}, task)["finetuned"]
    if name not in merges:
        kept = ", ".join(f"{name}[@SCALE]" for name in merges)
        raise UserError(
            f"{run} holds no model {model!r}: choose finetuned, zero_shot, task:NUMBER"
            + (f" or one of {kept}" if kept else "")
        )
    chosen = dataclasses.replace(config, merges=(model,))
    parse_merges(chosen)  # before anything is read

    def merge(theta_0: Params, entries: int) -> Params:
        rule, (scale,) = parse_merges(chosen, entries)[name]
        states = _restore(run / CHECKPOINTS, theta_0, merges)["merges"]
        return merged(rule, states[name], theta_0, scale)

    return merge


def _restore(
    directory: Path, theta_0: Params, merges: dict[str, Merge], task: int | None = None
) -> dict[str, Any]:
    """The fine-tuned model, with the states of the merges if any are given."""

    def like(note: dict[str, Any]) -> dict[str, Any]:
        states = state_shapes(merges, theta_0, note["learned"]) if merges else {}
        # Where to put them is told anew: the run's devices need not be there.
        return one_device().shapes({"finetuned": theta_0, "merges": states})

    if directory.is_dir():
        with Checkpoints(directory, keep=None) as checkpoints:
            number = max(checkpoints.numbers, default=None) if task is None else task
            if number in checkpoints.numbers:
                return checkpoints.restore(like, number).trees
    what = "checkpoint yet"
    if task is not None:
        what = f"model of task {task} (the first is 1): run with --checkpoint.keep-tasks"
    raise UserError(f"{directory} holds no {what}")
