"""Which studies there are, and how their records come into a run's directory."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from magmax_jax import results
from magmax_jax.assembly import assemble
from magmax_jax.config import ExperimentConfig, MeshConfig
from magmax_jax.errors import UserError
from magmax_jax.progress import Silent
from magmax_jax.results import ANALYSIS, CONFIG, RunDirectory
from magmax_jax.scenarios import build_scenario
from magmax_jax.sharding import build_layout
from magmax_jax.stored import StoredModels
from magmax_jax.studies.accuracies import contribution, pruning, transfer
from magmax_jax.studies.features import alignment
from magmax_jax.studies.overhead import overhead
from magmax_jax.studies.subject import Record, Subject
from magmax_jax.studies.weights import norms, provenance, signs, similarity

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
"""By name, the quick ones first."""


def study(
    out: RunDirectory,
    names: Sequence[str] = tuple(STUDIES),
    progress: Silent | None = None,
    exclude: tuple[str, ...] = (),
    transfer_to: tuple[str, ...] = (),
    again: bool = False,
) -> None:
    """Makes studies of a run and writes each to `analysis/NAME.jsonl`, whole or not at all.

    One that lies there already, of as many tasks and with the same arguments, is left as it is;
    one that this run does not allow is passed over with a sentence.

    Args:
      out: the run's directory.
      names: of `STUDIES`.
      progress: shows what is done.
      exclude: patterns of parameters to leave out where task vectors are compared.
      transfer_to: further data sets for `transfer`.
      again: make those, too, that are there.

    Raises:
      UserError: the run has no checkpoint, its data or model is not there, or there is no such
        study, pattern or data set.
    """
    progress = progress or Silent()
    for name in names:
        if name not in STUDIES:
            raise UserError(f"{name!r} is no study: choose from {', '.join(STUDIES)}")
    stored_config = ExperimentConfig.from_file(out.path / CONFIG)
    config = replace(stored_config, mesh=MeshConfig())  # that of these devices, not of the run's
    layout = build_layout(config)
    parts = assemble(config, build_scenario(config.scenario, config.seed), layout)
    stored = StoredModels(out.path, parts.theta_0, parts.merges, layout)
    subject = Subject(
        parts, stored, out.rows(), stored.learned, progress, tuple(exclude), tuple(transfer_to)
    )
    if out.writes:
        (out.path / ANALYSIS).mkdir(exist_ok=True)
    for name in names:
        path = out.path / ANALYSIS / f"{name}.jsonl"
        stamp = {"after_task": subject.learned, "exclude": " ".join(exclude)}
        if name == "transfer":
            stamp = {"learned": subject.learned, "others": " ".join(transfer_to)}
        if not again and path.exists() and _stamp(path, stamp) == stamp:
            progress.say(f"{name}: {path} is there already (--again repeats it)")
            continue
        try:
            records = list(STUDIES[name](subject))
        except UserError as error:
            if len(names) == 1:
                raise
            progress.say(f"{name}: left out, {error}")
            continue
        if out.writes:
            results.replace(path, "".join(json.dumps(r | stamp) + "\n" for r in records))
        progress.say(f"{name}: {len(records)} records in {path}")


def _stamp(path: Path, like: Record) -> Record | None:
    """What a file's first record says of how it was made; None if it says nothing."""
    try:
        first = json.loads(path.read_text().partition("\n")[0])
        return {key: first[key] for key in like}
    except (OSError, ValueError, KeyError, TypeError):
        return None
