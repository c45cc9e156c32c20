"""Exports models from a run's directory as checkpoints for transformers and `magmax merge`."""

from collections.abc import Callable
from pathlib import Path

from flax import nnx

from magmax_jax.models import from_pretrained, num_entries, preprocessing_of
from magmax_jax.runs.export_card import export_card
from magmax_jax.runs.kept_tasks import kept_note
from magmax_jax.runs.locate import stored_config
from magmax_jax.runs.merge_specs import parse_merges, parse_refits
from magmax_jax.runs.model_ref import ModelRef
from magmax_jax.runs.model_store import ModelStore, check_model
from magmax_jax.runs.recorded import Compared, checking


def export(
    run: Path,
    model: ModelRef | str,
    output: Path,
    dtype: str = "float32",
    allow_changed: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Writes one of a run's models as a Hugging Face directory, with text tower and model card.

    Args:
      run: the run's directory.
      model: `finetuned` (after the last task learned so far), `task:3` (after that task, if the run
        keeps every task's), `zero_shot` (theta_0 at the run's image size), or one of the run's
        merges, `RULE` or `RULE@SCALE` at any scale; rules given as `module:function` are imported.
      output: a new directory, written atomically.
      dtype: of the weights, "float32", "float16" or "bfloat16".
      allow_changed: continue even if theta_0's files differ from those that the run recorded.
      say: takes a line on allowed changes, on task vectors that the run keeps quantised, and on
        what transformers computes differently.

    Raises:
      UserError: the run has no such model or no checkpoint, the model's family cannot be saved, the
        files of theta_0 changed since the run, or writing fails.
    """
    config = stored_config(run)
    ref = ModelRef.parse(str(model), str(run))
    if ref.is_merge:  # other models do not need the rules, whose modules may be gone
        known = parse_merges(config)
        check_model(run, ref, known, parse_refits(config, known))  # before anything is read
    with checking([Compared(run, config)], allow_changed, say):
        loaded = from_pretrained(
            config.model.source, config.model.image_size, text_source=config.model.text_source
        )
    _, theta_0 = loaded.image_tower("float32")
    merges = parse_merges(config, num_entries(loaded), loaded.config) if ref.is_merge else {}
    refits = parse_refits(config, merges, loaded.config) if ref.is_merge else {}
    stored = ModelStore(run, theta_0, merges, refits=refits)
    loaded.update_image_tower(stored.model(ref))
    if note := kept_note(config.checkpoint.task_bits, ref, merges):
        say(f"note: {note}")
    loaded.save_pretrained(output, dtype, export_card(config, ref, dtype))
    if not_saved := preprocessing_of(loaded).geometry.resize.not_saved:
        say(f"note: {not_saved}")


def unlearned(run: Path, model: ModelRef | str) -> str | None:
    """A warning if the model is still theta_0, because the run has not learned a task yet.

    None for every other model, and for `zero_shot`, whose name says so.

    Raises:
      UserError: the run has no checkpoint yet.
    """
    ref = ModelRef.parse(str(model), str(run))
    if ref.is_zero_shot or ref.task is not None or ModelStore(run, nnx.State({}), {}).learned:
        return None
    return f"{run} has not learned its first task yet, so these are the weights of zero_shot"
