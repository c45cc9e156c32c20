"""Models out of a run's directory, as checkpoints that transformers and `magmax merge` read."""

from pathlib import Path

import jax
from flax import nnx

from magmax_jax.checkpoints import Checkpoints
from magmax_jax.config import ExperimentConfig
from magmax_jax.errors import UserError
from magmax_jax.experiment import parse_merges
from magmax_jax.merging import merged
from magmax_jax.models import CLIP
from magmax_jax.results import CHECKPOINTS, CONFIG


def export(run: Path, model: str, output: Path, dtype: str = "float32") -> None:
    """Writes one of a run's models as a Hugging Face directory, the text tower included.

    Args:
      run: the run's directory.
      model: `finetuned` (after the last task learned so far), `zero_shot` (theta_0 at the run's
        image size), or one of the run's merges, `RULE` or `RULE@SCALE` at any scale.
      output: a new directory; it appears whole or not at all.
      dtype: of the weights, "float32", "float16" or "bfloat16".

    Raises:
      UserError: the run has no such model or no checkpoint, or the disk refuses.
    """
    config = ExperimentConfig.from_file(run / CONFIG)
    merges = parse_merges(config.merges, config.seed)
    rule_name, _, _ = model.partition("@")
    if model not in ("finetuned", "zero_shot") and rule_name not in merges:
        raise UserError(
            f"{run} holds no model {model!r}: choose finetuned, zero_shot or one of "
            f"{', '.join(f'{name}[@SCALE]' for name in merges)}"
        )
    clip = CLIP.from_pretrained(config.model.source, config.model.image_size)
    _, theta_0 = clip.image_tower("float32")
    if model != "zero_shot":
        states = {name: jax.eval_shape(merge.rule.init, theta_0) for name, merge in merges.items()}
        with Checkpoints(run / CHECKPOINTS) as checkpoints:
            _, found = checkpoints.restore({"finetuned": theta_0, "merges": states})
        if model == "finetuned":
            theta = found["finetuned"]
        else:
            rule, (scale,) = parse_merges([model], config.seed)[rule_name]
            theta = merged(rule, found["merges"][rule_name], theta_0, scale)
        nnx.update(clip.vision, theta)
    clip.save_pretrained(output, dtype)
