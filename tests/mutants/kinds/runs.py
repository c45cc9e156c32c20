"""Files in a run's directory, as its readers take them: watch, report, resume."""

import contextlib
import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from magmax_jax.cli import table
from magmax_jax.cli.run_status import RunFollower
from magmax_jax.config import ExperimentConfig
from magmax_jax.evaluation.rows import read_rows
from magmax_jax.evaluation.scales import Scales
from magmax_jax.registry import SCENARIO_KINDS
from magmax_jax.report.groups import grouped
from magmax_jax.report.inputs import changed_starts, differing_inputs
from magmax_jax.report.items import Figure, Grid, Table
from magmax_jax.report.page import as_csv
from magmax_jax.report.runs import find
from magmax_jax.report.section import sections
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.file_names import DATA_FILES
from magmax_jax.runs.fingerprint import Fingerprint
from magmax_jax.runs.recorded import changes, check_present
from tests.mutants import mutate
from tests.mutants.kind import Kind, in_json, in_lines, in_safetensors
from tests.report import made_up

ROW = {
    "after_task": 1, "model": "max_magnitude", "scale": 0.5, "protocol": "agnostic",
    "group": "all", "accuracy": 0.5, "count": 10, "top5": 0.9, "split": "test", "chosen": None,
}  # fmt: skip
ABOUT = {
    "scenario": "digits", "classes": ["zero", "one"], "models": 2,
    "tasks": [{"name": "task 1", "classes": [0, 1], "train": 9, "validation": 1, "test": 10}],
    "learned": [{"name": "task 1", "steps": 2, "images": 9, "epochs": 1}],
    "published_scales": {"max_magnitude": 0.5}, "inputs": {"paths": {"x": ["/x", "../x"]}},
    "starts": [{"time": "2026-01-01T00:00:00+00:00", "command": "", "devices": "1 x cpu"}],
}  # fmt: skip
STEP = {"task": 1, "step": 1, "total_step": 1, "loss": 0.5, "seconds": 0.1}


def _make(folder: Path) -> None:
    (folder / "config.json").write_text(ExperimentConfig().to_json())
    rows = [ROW | {"after_task": 0, "model": "zero_shot", "scale": None}, ROW]
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "about.json").write_text(json.dumps(ABOUT))
    steps = [STEP, STEP | {"step": 2, "total_step": 2}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))


def _status(folder: Path) -> Any:
    return RunFollower(folder).look(2e9)


# The sizes of the data's files, to name what changed.

SIZES = {"/data": {"a/1.png": 5, "a/2.png": 7}}
NOW = Fingerprint(
    {},
    {},
    ({"dataset": "x", "kind": "folder", "path": "/data", "files": 1, "bytes": 5, "digest": "2"},),
    {"/data": {"a/1.png": 5}},
)
RECORD = {"data": [NOW.data[0] | {"digest": "1"}]}


def _make_sizes(folder: Path) -> None:
    (folder / DATA_FILES).write_bytes(gzip.compress(json.dumps(SIZES).encode(), mtime=0))


def _in_gzip(data: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.3:
        return mutate.of_bytes(data, draw)
    return gzip.compress(in_json(gzip.decompress(data), draw), mtime=0)


def _one_sentence(folder: Path, found: list[str]) -> bool:
    return len(found) == 1 and found[0].startswith("the images under /data (")


# A finished run's report.


INPUTS = {
    "models": {"model.source": {"path": "/nowhere", "weights": {"model.safetensors": "0" * 64}}},
    "data": [{"dataset": "cifar100", "kind": "shards", "path": "/nowhere", "files": 1,
              "bytes": 5, "digest": "1"}],
    "paths": {"shared": ["/nowhere", "../nowhere"]},
}  # fmt: skip


def _make_finished(folder: Path) -> None:
    made_up.write(folder, made_up.config(tasks=2, merges=("max_magnitude",)))
    about = json.loads((folder / "about.json").read_text())
    about["starts"][1]["changed"] = ["the weights of theta_0 at /nowhere"]
    (folder / "about.json").write_text(json.dumps(about | {"inputs": INPUTS}))


def _make_earlier(folder: Path) -> None:
    _make_finished(folder)
    made_up.with_matrices(folder)


def _report(folder: Path) -> list[str]:
    """Everything that the page shows, without drawing it."""
    runs, _ = find([folder])
    check_present([run.path for run in runs])
    differing_inputs(runs), changed_starts(runs)
    items = [
        x for group in grouped(runs) for _, section in sections() for x in section.items(group)
    ]
    return [as_csv(item.records) for item in items if isinstance(item, Figure | Table | Grid)]


def _table(folder: Path) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        table.main([str(folder)])
    return shown.getvalue()


def _scales(folder: Path) -> tuple[Scales, Any]:
    found = RunDirectory(folder).scales()
    apart = SCENARIO_KINDS["class"].task_aware
    return found, (
        found.best(apart),
        found.images,
        found.beside(read_rows(folder / "results.jsonl")),
    )


def _chosen_on_validation(folder: Path, found: tuple[Scales, Any]) -> bool:
    return all(np.isfinite(scale) for scale in found[0].chosen.values())


KINDS = {
    "rows": Kind("results.jsonl", _make, lambda f: read_rows(f / "results.jsonl"), in_lines),
    "sweep": Kind("sweep.jsonl", _make_finished, _scales, in_lines, _chosen_on_validation),
    "status, rows": Kind("results.jsonl", _make, _status, in_lines),
    "status, steps": Kind("metrics.jsonl", _make, _status, in_lines),
    "status, about": Kind("about.json", _make, _status, in_json),
    "data files": Kind(
        DATA_FILES, _make_sizes, lambda f: changes(f, RECORD, NOW), _in_gzip, _one_sentence
    ),
    "table, rows": Kind("results.jsonl", _make_finished, _table, in_lines, cost=5),
    "report, rows": Kind("results.jsonl", _make_finished, _report, in_lines, cost=5),
    "report, steps": Kind("metrics.jsonl", _make_finished, _report, in_lines, cost=5),
    "report, about": Kind("about.json", _make_finished, _report, in_json, cost=5),
    "report, sweep": Kind("sweep.jsonl", _make_finished, _report, in_lines, cost=5),
    "report, analyses": Kind("analysis/*.jsonl", _make_finished, _report, in_lines, cost=5),
    "report, counts": Kind("counts/*", _make_finished, _report, in_safetensors, cost=5),
    "report, matrices": Kind("counts/*", _make_earlier, _report, in_safetensors, cost=5),
}
