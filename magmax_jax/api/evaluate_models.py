"""Any models on any scenario: `evaluate(models)`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import jax

from magmax_jax.api.compilation_cache import keep_compiled_by_default
from magmax_jax.api.model_evaluation import Evaluation, evaluate_all
from magmax_jax.api.run_experiment import as_progress
from magmax_jax.config import ExperimentConfig, MeshConfig, ScenarioConfig
from magmax_jax.data import as_source
from magmax_jax.data.array_name import ARRAYS
from magmax_jax.errors import UserError
from magmax_jax.evaluation.rows import Row
from magmax_jax.models import Model
from magmax_jax.models.auto_axes import no_mesh, under_auto_axes
from magmax_jax.packages import missing_extras_named
from magmax_jax.runs.evaluation_data import ONE_TASK, first_run
from magmax_jax.runs.progress import Progress


@missing_extras_named()
def evaluate(
    models: Any,
    *,
    scenario: ScenarioConfig | None = None,
    seed: int | None = None,
    test: Any = None,
    image_size: int | None = None,
    text_source: Path | str | None = None,
    dtype: Literal["float32", "bfloat16"] | None = None,
    batch_size: int = 256,
    mesh: MeshConfig | None = None,
    out: Path | str | None = None,
    allow_changed: bool = False,
    progress: Progress | bool = True,
    keep_compiled: bool = True,
) -> list[Row]:
    """Evaluates models: accuracy among all classes and among each task's own, top-5, by task and by
    domain, each image counted once.

        mm.evaluate(["runs/a", "runs/a:max_magnitude@0.7", "openai/clip-vit-base-patch16"])
        mm.evaluate({"merged": model}, test=mm.Source(images, labels, class_names))

    Args:
      models: one or a list of these, or a dictionary of them by name: a run's directory (its last
        model), "RUN:MODEL" (finetuned, zero_shot, task:3, RULE or RULE@SCALE), a directory that
        transformers loads, a hub id, or a loaded model.
      scenario, seed: the tasks; not set: the first run's, or one task of all classes of `test`. For
        a folder of images, pass `mm.config.ScenarioConfig(dataset="folder:DIR", num_tasks=1)`.
      test: your own images in any form that `as_source` takes, in place of the scenario's.
      image_size: input size in pixels; not set: the checkpoint's own. A run's is fixed.
      text_source: the CLIP whose text tower completes models that are image towers only.
      dtype: of the computation; not set: the run's, or float32.
      mesh: how work is divided among devices.
      out: a new directory for results.jsonl, one row per group, and counts/.
      allow_changed: continue even if the files of a run's model or data differ from those that the
        run recorded; a note says what changed.
      progress, keep_compiled: as in `run`.

    Returns:
      rows whose `model` is the name of the model; `pandas.DataFrame(rows)` takes them.

    Raises:
      UserError: a model, the images or the scenario is invalid.
    """
    if keep_compiled:
        keep_compiled_by_default()
    named = _by_name(models)
    config = first_run(model for model in named.values() if isinstance(model, str))
    images = None if test is None else as_source(test, where="test")
    if scenario is None and config is None:
        if images is None:
            raise UserError(
                "no images are given: pass test=mm.Source(images, labels, class_names), or "
                "scenario=mm.config.ScenarioConfig(dataset='folder:DIR', num_tasks=1)"
            )
        scenario = replace(ONE_TASK, dataset=ARRAYS)
    config = config or ExperimentConfig()
    evaluation = Evaluation(
        models=named,
        scenario=scenario or config.scenario,
        seed=config.seed if seed is None else seed,
        given=None if images is None else (images, images),  # nothing is trained
        image_size=image_size,
        text_source=None if text_source is None else str(text_source),
        dtype=dtype,
        batch_size=batch_size,
        mesh=mesh or MeshConfig(),
        allow_changed=allow_changed,
    )
    shown = as_progress(progress if jax.process_index() == 0 else False)
    with no_mesh():
        found, _ = evaluate_all(evaluation, shown, out)
    return [row for one in found for row in one.rows]


def _by_name(models: Any) -> dict[str, str | Model]:
    """Models by the names used in their rows."""
    if isinstance(models, str | Path) or hasattr(models, "image_tower"):
        models = [models]
    if not isinstance(models, Mapping):
        loaded = 0
        named: dict[str, Any] = {}
        for model in models:
            if isinstance(model, str | Path):
                named[str(model)] = model
            else:
                loaded += 1
                named[f"model {loaded}"] = model
        models = named
    if not models:
        raise UserError("there are no models: pass runs, directories, hub ids or loaded models")
    for name, model in models.items():
        if not isinstance(model, str | Path) and not hasattr(model, "image_tower"):
            raise UserError(
                f"{name} is a {type(model).__name__}: pass a run, a directory, a hub id or a "
                "loaded model"
            )
    return {
        name: str(model) if isinstance(model, str | Path) else under_auto_axes(model)
        for name, model in models.items()
    }
