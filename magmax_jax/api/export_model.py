"""One of a run's models as a Hugging Face directory."""

import sys
from functools import partial
from pathlib import Path

from magmax_jax.errors import UserError
from magmax_jax.io.user_path import user_path
from magmax_jax.packages import missing_extras_named
from magmax_jax.runs import export as runs_export
from magmax_jax.runs.model_ref import ModelRef, model_of_run


@missing_extras_named()
def export(
    run: Path | str,
    output: Path | str,
    model: ModelRef | str = "finetuned",
    dtype: str = "float32",
    allow_changed: bool = False,
) -> Path:
    """Writes one of a run's models as a directory that transformers loads, with a model card.

    A line on standard error reports any difference in how transformers would preprocess images.

    Args:
      run: the run's directory.
      output: a new directory; it appears whole or not at all.
      model: "finetuned" (after the last task learned so far), "zero_shot", "RULE" or "RULE@SCALE"
        of the run's merges, or "task:3" of a run with `checkpoint.keep_tasks`.
      dtype: of the weights, "float32", "float16" or "bfloat16".
      allow_changed: continue even if the model that the run started from has changed; a line on
        standard error says what changed.

    Returns:
      the directory.

    Raises:
      UserError: it is not a run's directory, the run has no such model, the files of its theta_0
        have changed, or the output cannot be written.
    """
    run = user_path(run, "run")
    if model_of_run(str(run)) is None:
        raise UserError(f"{run} is not a run directory: give the directory of a run")
    output = user_path(output, "output")
    say = partial(print, file=sys.stderr)
    runs_export.export(run, model, output, dtype, allow_changed, say)
    return output
