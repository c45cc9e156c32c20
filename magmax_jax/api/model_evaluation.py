"""Models evaluated on one scenario, for the function `evaluate` and the command of that name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from magmax_jax.config import (
    ExperimentConfig,
    MeshConfig,
    ModelConfig,
    ScenarioConfig,
    TrainConfig,
)
from magmax_jax.data import Source
from magmax_jax.errors import ConfigError, UserError
from magmax_jax.evaluation.counts import Counts
from magmax_jax.evaluation.counts_file import write_counts
from magmax_jax.evaluation.rows import Row, rows_of
from magmax_jax.io.atomic import check_free, new_directory
from magmax_jax.io.hub import check_source
from magmax_jax.io.user_path import user_path
from magmax_jax.models import Model, is_tower_alone
from magmax_jax.runs.build import RunParts, build_run
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.evaluation_data import evaluation_scenario, is_data_of, recorded_names
from magmax_jax.runs.kept_tasks import kept_note
from magmax_jax.runs.locate import stored_config
from magmax_jax.runs.merge_specs import parse_merges, parse_refits
from magmax_jax.runs.model_ref import model_of_run
from magmax_jax.runs.model_store import ModelStore, check_model
from magmax_jax.runs.progress import Progress
from magmax_jax.runs.recorded import Compared, checking
from magmax_jax.runs.shared_pass import count_all, models_held
from magmax_jax.scenarios import Scenario, build_scenario
from magmax_jax.sharding import build_layout
from magmax_jax.training import Params


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Which models to evaluate, and on what."""

    models: Mapping[str, str | Model]
    """By the name used in their rows: the user's spelling, or a loaded model."""
    scenario: ScenarioConfig
    seed: int = 5
    given: tuple[Source, Source] | None = None
    """Training and test images, instead of those that the scenario names."""
    image_size: int | None = None
    text_source: str | None = None
    """Completes models that are image towers only."""
    dtype: Literal["float32", "bfloat16"] | None = None
    batch_size: int = 256
    mesh: MeshConfig = field(default_factory=MeshConfig)
    allow_changed: bool = False
    """Whether a run's model and data may differ from those that it recorded."""


@dataclass(frozen=True)
class Found:
    """The results of one model."""

    source: str
    rows: list[Row]
    counts: Counts


def evaluate_all(
    evaluation: Evaluation, progress: Progress, out: Path | str | None = None
) -> tuple[list[Found], Scenario]:
    """Evaluates every model; models with the same theta_0 share everything except their weights,
    including the passes over the images.

    With several processes, the first one writes to `out`.

    Raises:
      UserError: a model or the scenario is invalid, a run's inputs have changed since, or `out`
        exists.
    """
    if evaluation.seed < 0:
        raise ConfigError(f"seed is {evaluation.seed}: it must not be negative")
    if out is not None:
        out = user_path(out, "out")
        check_free(out)
    models = evaluation.models
    configs = [setting(name, model, evaluation) for name, model in models.items()]
    _check_text_source(evaluation.text_source, configs)
    for model, config in zip(models.values(), configs, strict=True):
        if isinstance(model, str) and (run := model_of_run(model)):
            known = parse_merges(config)
            check_model(*run, known, parse_refits(config, known))
    layout = build_layout(configs[0])
    sources = [model for model in models.values() if isinstance(model, str)]
    if evaluation.given is None:
        scenario = evaluation_scenario(sources, evaluation.scenario, evaluation.seed)
    else:
        names = recorded_names(sources)
        scenario = build_scenario(evaluation.scenario, evaluation.seed, evaluation.given, names)
    said: set[str] = set()
    _say_notes(scenario, said, progress)
    loaded = [None if isinstance(model, str) else model for model in models.values()]
    first = next(iter(models.values()))
    with checking(_compared(configs, evaluation, scenario), evaluation.allow_changed, progress.say):
        parts = build_run(configs[0], scenario, layout, loaded[0], _directory(first))
    built = {(configs[0], id(loaded[0])): parts}
    _say_notes(parts.scenario, said, progress)
    together: dict[tuple, dict[str, _Wanted]] = {}
    for (name, model), config, given in zip(models.items(), configs, loaded, strict=True):
        key = config, id(given)
        if key not in built:
            built[key] = build_run(config, scenario, layout, given, _directory(model))
            _say_notes(built[key].scenario, said, progress)
        together.setdefault(key, {})[name] = _wanted(name, model, built[key], config, progress)
    by_name: dict[str, Found] = {}
    for key, wanted in together.items():
        parts, makes = built[key], {name: one.make for name, one in wanted.items()}
        at_once = models_held(parts.theta_0, layout)
        counts = count_all(makes, parts.test, at_once, progress)
        for (name, one), counted in zip(wanted.items(), counts, strict=True):
            rows = rows_of(counted, scenario, one.learned, one.label, None)
            by_name[name] = Found(name, list(rows), counted)
    found = [by_name[name] for name in models]
    if out is not None and layout.is_first:
        _write(found, out)
    return found, scenario


class _Wanted(NamedTuple):
    """A model to evaluate.

    Attributes:
      make: makes its parameters.
      learned: number of tasks that it has learned.
      label: its name in the rows.
    """

    make: Callable[[], Params]
    learned: int
    label: str


def _wanted(
    name: str, model: str | Model, parts: RunParts, config: ExperimentConfig, progress: Progress
) -> _Wanted:
    run = model_of_run(model) if isinstance(model, str) else None
    if run is None:
        return _Wanted(lambda: parts.theta_0, 0, name)
    directory, ref = run
    stored = ModelStore(directory, parts.theta_0, parts.merges, parts.layout, parts.refits)
    if note := kept_note(config.checkpoint.task_bits, ref, parts.merges):
        progress.say(f"note: {directory}: {note}")
    learned = 0 if ref.is_zero_shot else ref.task or stored.learned
    label = f"{directory}:{ref}" if ref.is_finetuned and name == model else name
    return _Wanted(partial(stored.model, ref), learned, label)


def _directory(model: str | Model) -> Path | None:
    """The run's directory, if it is a run's model."""
    run = model_of_run(model) if isinstance(model, str) else None
    return run[0] if run else None


def _say_notes(scenario: Scenario, said: set[str], progress: Progress) -> None:
    """Prints each note once; notes differ between models because their tokenizers do."""
    for note in scenario.notes:
        if note not in said:
            said.add(note)
            progress.say(f"note: {note}")


def _compared(
    configs: Sequence[ExperimentConfig], evaluation: Evaluation, scenario: Scenario
) -> list[Compared]:
    """The runs among the models, each once; with the scenario if it uses their own data."""
    runs: dict[Path, Compared] = {}
    for model, config in zip(evaluation.models.values(), configs, strict=True):
        if isinstance(model, str) and (run := model_of_run(model)):
            trained = stored_config(run[0])
            own = len(scenario.train) and evaluation.given is None
            same = own and is_data_of(trained, evaluation.scenario)
            runs.setdefault(run[0], Compared(run[0], config, scenario if same else None))
    return list(runs.values())


def setting(name: str, model: str | Model, evaluation: Evaluation) -> ExperimentConfig:
    """The configuration for evaluating a model: a run's own, except for what was chosen."""
    run = model_of_run(model) if isinstance(model, str) else None
    size = evaluation.image_size
    if not isinstance(model, str):
        if size not in (None, model.config.image_size):
            raise UserError(
                f"image_size is {size}, but {name} is loaded at {model.config.image_size}: leave "
                "it out, or load the model at that size"
            )
        config = ExperimentConfig(model=ModelConfig(name), merges=())
    elif run is None:
        check_source(model)
        text = evaluation.text_source
        completed = text if text is not None and is_tower_alone(model) else None
        config = ExperimentConfig(model=ModelConfig(model, text_source=completed), merges=())
    else:
        config = stored_config(run[0])
        if size not in (None, config.model.image_size):
            raise UserError(
                f"--model.image-size is {size}, but {model} was trained at its own size: leave it "
                "out"
            )
    return replace(
        config,
        model=replace(
            config.model,
            image_size=size or config.model.image_size,
            dtype=evaluation.dtype or config.model.dtype,
        ),
        scenario=evaluation.scenario,
        train=TrainConfig(batch_size=evaluation.batch_size),  # nothing is trained
        merging=replace(config.merging, scales=None),  # no scale is chosen, and no image held out
        mesh=evaluation.mesh,  # for the devices here, not the run's
        eval_batch_size=evaluation.batch_size,
    )


def _check_text_source(text_source: str | None, configs: Sequence[ExperimentConfig]) -> None:
    """Raises a UserError if it names no model, or no model needs it."""
    if text_source is None:
        return
    check_source(text_source)
    if all(config.model.text_source != text_source for config in configs):
        raise ConfigError(
            f"model.text_source is {text_source}, but no model here is only an image tower: leave "
            "it out"
        )


def _write(found: Sequence[Found], out: Path) -> None:
    with new_directory(out) as partial:
        results = RunDirectory(partial)
        results.append(row for one in found for row in one.rows)
        for number, one in enumerate(found, start=1):
            write_counts(results.counts / f"{number:03d}.safetensors", one.counts)
