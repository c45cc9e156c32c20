"""The studies, and writing their records into a run's directory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from magmax_jax.config import ExperimentConfig, MeshConfig, ScenarioConfig
from magmax_jax.data.folder_name import folder_of
from magmax_jax.errors import UserError, counted
from magmax_jax.io import json_lines
from magmax_jax.runs.build import build_run
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.file_names import ANALYSIS
from magmax_jax.runs.locate import stored_config
from magmax_jax.runs.manifest import class_names
from magmax_jax.runs.model_store import ModelStore
from magmax_jax.runs.progress import NullProgress, Progress
from magmax_jax.runs.recorded import Compared, checking
from magmax_jax.runs.studies.accuracies import contribution, pruning, transfer
from magmax_jax.runs.studies.features import alignment
from magmax_jax.runs.studies.overhead import overhead
from magmax_jax.runs.studies.subject import Record, Subject, Unsuited
from magmax_jax.runs.studies.weights import norms, provenance, signs, similarity
from magmax_jax.scenarios import Scenario, build_scenario, build_test_scenario
from magmax_jax.sharding import build_layout

STUDIES: dict[str, Callable[[Subject], Iterator[Record]]] = {
    "signs": signs,
    "norms": norms,
    "similarity": similarity,
    "provenance": provenance,
    "transfer": transfer,
    "alignment": alignment,
    "contribution": contribution,
    "pruning": pruning,
    "overhead": overhead,
}
"""By name, quick ones first."""
COMPARING = ("signs", "norms", "similarity", "provenance")
"""The studies that compare task vectors, to which `exclude` applies."""


def study(
    out: RunDirectory,
    names: Sequence[str] = tuple(STUDIES),
    progress: Progress | None = None,
    exclude: tuple[str, ...] = (),
    transfer_to: tuple[str, ...] = (),
    data_dir: str | None = None,
    again: bool = False,
    mesh: MeshConfig | None = None,
    allow_changed: bool = False,
) -> None:
    """Runs studies of a run and writes each atomically to `analysis/NAME.jsonl`.

    A study that already exists, for as many tasks and the same arguments, is left as it is; one
    that does not apply to this run is skipped with a message.

    Args:
      out: the run's directory.
      names: of `STUDIES`.
      progress: shows what is done.
      exclude: patterns of parameters to leave out when task vectors are compared.
      transfer_to: further data sets for `transfer`.
      data_dir: the directory of those; None for that of the run's data set.
      again: also repeat studies that exist.
      mesh: for the present devices; the run's own mesh does not matter.
      allow_changed: continue even if the model's or the data's files differ from those recorded.

    Raises:
      UserError: the run has learned no task, its data or model is missing or changed since, or
        there is no such study, pattern or data set; or the only study named does not apply to the
        run.
    """
    progress = progress or NullProgress()
    for name in names:
        if name not in STUDIES:
            raise UserError(f"{name!r} is not a study: choose from {', '.join(STUDIES)}")
    config = replace(stored_config(out.path), mesh=mesh or MeshConfig())
    layout = build_layout(config)
    classes = class_names(out.path)
    scenario = build_scenario(config.scenario, config.seed, recorded=classes)
    with checking([Compared(out.path, config, scenario)], allow_changed, progress.say):
        parts = build_run(config, scenario, layout, run=out.path)
    stored = ModelStore(out.path, parts.theta_0, parts.merges, layout, parts.refits)
    learned, bits = stored.learned, config.checkpoint.task_bits
    if not learned:
        raise UserError(f"{out.path} has learned no task yet: continue the run first")
    transfer_to = transfer_to if "transfer" in names else ()
    others = {name: _other(name, data_dir, config) for name in transfer_to}
    subject = Subject(parts, stored, out.rows(), learned, progress, tuple(exclude), others)
    _ = subject.kept  # reports invalid patterns early
    if bits is not None:
        progress.say(f"note: task vectors are those that the run keeps in {bits} bits per entry")
    if out.writes:
        (out.path / ANALYSIS).mkdir(exist_ok=True)
    for name in names:
        path = out.path / ANALYSIS / f"{name}.jsonl"
        stamp: Record = {"learned": learned}
        if name in COMPARING:
            stamp["exclude"] = " ".join(exclude)
        if name == "transfer":
            stamp["others"] = " ".join(transfer_to)
        if not again and path.exists() and _stamp(path, stamp) == stamp:
            progress.say(f"{name}: {path} already exists (--again repeats it)")
            continue
        try:
            records = list(STUDIES[name](subject))
        except Unsuited as error:
            if len(names) == 1:
                raise
            progress.say(f"{name}: left out, {error}")
            continue
        if out.writes:
            json_lines.write(path, (record | stamp for record in records))
        progress.say(f"{name}: {counted(len(records), 'record')} in {path}")


def _other(name: str, data_dir: str | None, config: ExperimentConfig) -> Scenario:
    """A data set as one task, on which models are evaluated."""
    own = config.scenario
    is_own = own.data_dir == folder_of(own.dataset, own.data_dir)  # the folder of images itself
    beside = None if is_own else own.data_dir
    scenario = ScenarioConfig(dataset=name, data_dir=data_dir or beside, num_tasks=1)
    return build_test_scenario(scenario, config.seed)


def _stamp(path: Path, like: Record) -> Record | None:
    """How a study's file was made, from its first record; None if unknown."""
    records = json_lines.read(path)
    return {key: records[0].get(key) for key in like} if records else None
