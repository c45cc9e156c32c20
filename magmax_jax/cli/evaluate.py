"""Any checkpoint on any scenario: `magmax evaluate SOURCE ... [--scenario...]`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from magmax_jax.cli import flags
from magmax_jax.cli.command import Command
from magmax_jax.cli.engine import Engine
from magmax_jax.cli.evaluate_tables import tables
from magmax_jax.config import MeshConfig, ScenarioConfig, SweepConfig
from magmax_jax.data.folder_name import folder_of, is_folder
from magmax_jax.data.load import is_folder_of_images
from magmax_jax.errors import MAGMAX, Program, UserError
from magmax_jax.registry import COMMANDS, SCENARIO_KINDS
from magmax_jax.runs.evaluation_data import ONE_TASK, first_run
from magmax_jax.runs.model_ref import model_of_run

if TYPE_CHECKING:  # JAX takes seconds to import, and --help does not need it
    from magmax_jax.api.model_evaluation import Evaluation
    from magmax_jax.runs.progress import Progress


@dataclass(frozen=True)
class Evaluate:
    """Evaluates checkpoints: accuracy among all classes and among each task's own, top-5, by task,
    by domain and by class, each image counted once.

    SOURCE is a run (its last model), RUN:MODEL (finetuned, zero_shot, task:3, RULE or RULE@SCALE),
    a directory that transformers loads, or a hub id. You may also name a folder of images: its
    images are the test set, and all its classes form one task. Without one, the first run's
    scenario and seed are used unless the flags say otherwise; without a run, models are evaluated
    on one task of --scenario.dataset.
    """

    sources: tyro.conf.Positional[tuple[str, ...]]
    """RUN, RUN:MODEL, directory or hub id; each is a column of the tables. One may be a folder of
    images, [test/][domain/]class/*."""
    scenario: ScenarioConfig = ONE_TASK
    image_size: Annotated[
        int | None, tyro.conf.arg(name="model.image-size", aliases=("--image-size",))
    ] = None
    """Input size in pixels; not set: the checkpoint's own. A run's is fixed."""
    text_source: Annotated[
        str | None, tyro.conf.arg(name="model.text-source", aliases=("--text-source",))
    ] = None
    """The CLIP from which image-tower-only sources (transformers' CLIPVisionModel) were fine-tuned,
    a directory or hub id: its text tower completes them."""
    dtype: Annotated[
        Literal["float32", "bfloat16"] | None,
        tyro.conf.arg(name="model.dtype", aliases=("--dtype",)),
    ] = None
    """Computation dtype; not set: the run's, or float32."""
    batch_size: int = 256
    seed: int = 5
    """Seed of scenarios that draw at random."""
    per_class: bool = False
    """Also show the accuracy of every class."""
    out: Path | None = None
    """A new directory for results.jsonl, one row per group, and counts/, the counts by task, domain
    and class with the confusions."""
    allow_changed: bool = False
    """Continue even if the files of a run's model or data have changed."""
    sweep: SweepConfig = field(default_factory=SweepConfig)
    """Sweep rules over scales for one run, on its own scenario; writes its sweep.jsonl."""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    engine: Annotated[Engine, tyro.conf.arg(name="")] = field(default_factory=Engine)


def parse(argv: list[str], program: Program = MAGMAX) -> Evaluate:
    """The command line; a run or a folder of images among the sources changes the defaults.

    Such a folder becomes the scenario's data set and is removed from the sources.
    """

    def read(default: Evaluate) -> Evaluate:
        return flags.parse(Evaluate, argv, prog=program.line("evaluate"), default=default)

    default = Evaluate(sources=())
    chosen = read(default)
    if not chosen.sources:
        raise UserError("no SOURCE is given: name runs, directories of checkpoints, or hub ids")
    folder, models = _split_sources(chosen.sources)
    if trained := first_run(models):
        default = replace(default, scenario=trained.scenario, seed=trained.seed)
    if folder is not None and not (trained and _is_data_of(folder, trained.scenario)):
        dataset = folder if is_folder(folder) else f"folder:{folder}"
        default = replace(default, scenario=replace(ONE_TASK, dataset=dataset))
    chosen = read(default)
    if folder is not None and not _is_data_of(folder, chosen.scenario):
        raise UserError(
            f"{folder} is a folder of images, and the flags choose other data: leave out one of "
            "them"
        )
    return replace(chosen, sources=models)


def _split_sources(sources: Sequence[str]) -> tuple[str | None, tuple[str, ...]]:
    """The folder of images among the sources (None if there is none), and the models.

    Raises:
      UserError: there are several folders, or only a folder.
    """
    folders = [source for source in sources if _names_images(source)]
    models = tuple(source for source in sources if source not in folders)
    if len(folders) > 1:
        raise UserError(
            f"{folders[0]} and {folders[1]} are both folders of images: name one, or evaluate on "
            "several with --scenario.kind datasets --scenario.datasets folder:DIR ..."
        )
    if folders and not models:
        raise UserError(f"{folders[0]} is a folder of images: also name a model to evaluate on it")
    return folders[0] if folders else None, models


def _names_images(source: str) -> bool:
    return is_folder(source) or (model_of_run(source) is None and is_folder_of_images(source))


def _is_data_of(folder: str, scenario: ScenarioConfig) -> bool:
    """Whether a scenario's only data set is that folder of images, however it is spelled."""
    own = folder_of(scenario.dataset, scenario.data_dir)
    named = folder_of(folder, None) if is_folder(folder) else folder
    if own is None or named is None or "dataset" not in SCENARIO_KINDS[scenario.kind].reads:
        return False
    return Path(own).expanduser().resolve() == Path(named).expanduser().resolve()


def _evaluation(chosen: Evaluate) -> "Evaluation":
    """What the command line asks for."""
    from magmax_jax.api.model_evaluation import Evaluation

    return Evaluation(
        models={source: source for source in chosen.sources},
        scenario=chosen.scenario,
        seed=chosen.seed,
        image_size=chosen.image_size,
        text_source=chosen.text_source,
        dtype=chosen.dtype,
        batch_size=chosen.batch_size,
        mesh=chosen.mesh,
        allow_changed=chosen.allow_changed,
    )


def _sweep(chosen: Evaluate, progress: "Progress") -> None:
    from magmax_jax.api.model_evaluation import setting
    from magmax_jax.api.sweep_run import sweep_run
    from magmax_jax.evaluation.scales import describe
    from magmax_jax.runs.directory import RunDirectory
    from magmax_jax.runs.locate import stored_config

    run = model_of_run(chosen.sources[0])
    if len(chosen.sources) != 1 or run is None or not run[1].is_finetuned:
        raise UserError("--sweep.rules needs one RUN as the only SOURCE: its merges are swept")
    config = stored_config(run[0])
    if (chosen.scenario, chosen.seed) != (config.scenario, config.seed):
        raise UserError("--sweep.rules sweeps a run on its own scenario: leave out --scenario")
    model = chosen.dtype or chosen.image_size or chosen.text_source
    if model or chosen.out or chosen.per_class:
        raise UserError(
            "--sweep.rules writes into the run and evaluates as the run did: leave out "
            "--model.dtype, --model.image-size, --model.text-source, --out and --per-class"
        )
    config = setting(chosen.sources[0], chosen.sources[0], _evaluation(chosen))
    rows = sweep_run(run[0], config, [chosen.sweep], progress, chosen.allow_changed)
    apart = SCENARIO_KINDS[config.scenario.kind].task_aware
    for sentence in describe(rows, apart, RunDirectory(run[0]).scales().published):
        progress.say(sentence)
    progress.say(f"{run[0] / 'sweep.jsonl'} has every scale")


def main(argv: list[str], program: Program = MAGMAX) -> None:
    """Evaluates what the command line names."""
    chosen = parse(argv, program)
    chosen.engine.start()
    import jax

    from magmax_jax.api.model_evaluation import evaluate_all
    from magmax_jax.runs.progress import NullProgress, TerminalProgress

    first = jax.process_index() == 0
    progress = TerminalProgress() if first else NullProgress()
    if chosen.sweep.rules:
        _sweep(chosen, progress)
        return
    found, scenario = evaluate_all(_evaluation(chosen), progress, chosen.out)
    for table in tables(found, scenario, chosen.per_class):
        progress.say(table)
    if chosen.out is not None:
        progress.say(f"{chosen.out}: results.jsonl and counts/")


COMMANDS.register(
    "evaluate",
    Command(
        "Evaluates any checkpoint on any scenario.",
        main,
        flags={
            "eval_batch_size": "--batch-size",
            "train.batch_size": "--batch-size",
        },
    ),
)
