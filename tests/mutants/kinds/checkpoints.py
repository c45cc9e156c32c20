"""Checkpoints of a run: its state to resume from, its models to evaluate, its head."""

import random
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from magmax_jax.config import ExperimentConfig
from magmax_jax.errors import UserError
from magmax_jax.evaluation.rows import Row
from magmax_jax.merging import fold, merged
from magmax_jax.runs import kept_head, state
from magmax_jax.runs.checkpoints import Checkpoints
from magmax_jax.runs.file_names import CHECKPOINTS, HEAD, TASKS
from magmax_jax.runs.kept_tasks import to_keep
from magmax_jax.runs.merge_specs import parse_merges
from magmax_jax.runs.model_ref import ModelRef
from magmax_jax.runs.model_store import ModelStore
from magmax_jax.runs.state import RunState
from magmax_jax.sharding import one_device
from magmax_jax.training.regularizers.none import none
from tests.mutants import mutate
from tests.mutants.kind import Kind, in_safetensors, in_text_or_bytes

MERGES = parse_merges(ExperimentConfig(merges=("max_magnitude@0.5",)))
ROWS = tuple(Row(t, "finetuned", None, "agnostic", "all", 0.5 + t, 10) for t in (0, 1))
TASK_BITS = 4


def _model(seed: int) -> dict[str, jax.Array]:
    draw = np.random.default_rng(seed)
    shapes = {"a": (16, 3), "b": (40,)}
    return {name: jax.numpy.asarray(draw.normal(size=s), "float32") for name, s in shapes.items()}


def _parts() -> Any:
    """As much of a run's parts as its state needs between two tasks."""
    return SimpleNamespace(
        theta_0=_model(0), merges=MERGES, regularizer=none(), trainer=None, refits={},
        layout=one_device(), head=np.zeros((4, 3)), steps=lambda task: 5,
    )  # fmt: skip


def _states() -> Iterable[RunState]:
    """A run's state after its first and its second task."""
    now, theta_0 = state.beginning(_parts()), _model(0)
    for number in (1, 2):
        theta = _model(number)
        states = {
            name: fold(merge.rule, now.states[name], theta, theta_0)
            for name, merge in MERGES.items()
        }
        now = now._replace(learned=number, theta=theta, states=states, rows=ROWS)
        yield now


def _make(folder: Path) -> None:
    with Checkpoints(folder / CHECKPOINTS) as checkpoints:
        for standing in _states():
            state.save(checkpoints, _parts(), standing)
    with Checkpoints(folder / TASKS, keep=None) as tasks:
        for number in (1, 2):
            bits = TASK_BITS if number == 2 else None
            tasks.save(number, *to_keep(_model(number), _model(0), bits))


def _resumed(folder: Path) -> RunState:
    said: list[str] = []
    with Checkpoints(folder / CHECKPOINTS, say=said.append) as checkpoints:
        found = state.restore(checkpoints, _parts())
    if found is None:
        raise UserError("the run starts again")
    return found


def _as_saved(folder: Path, found: RunState) -> bool:
    """Whether a run continues from one of its two checkpoints, to the bit."""
    return any(_equal(found, saved) for saved in _states())


def _evaluated(folder: Path) -> dict[str, Any]:
    store = ModelStore(folder, _model(0), MERGES)
    names = ("finetuned", "max_magnitude@0.7", "task:1", "task:2")
    return {name: store.model(ModelRef.parse(name)) for name in names}


def _as_merged(folder: Path, found: dict[str, Any]) -> bool:
    *_, last = _states()
    rule = MERGES["max_magnitude"].rule
    expected = {
        "finetuned": _model(2),
        "max_magnitude@0.7": merged(rule, last.states["max_magnitude"], _model(0), 0.7),
        "task:1": _model(1),
    }
    quantised = _model(2)
    near = all(np.abs(found["task:2"][name] - quantised[name]).max() < 1.0 for name in quantised)
    return near and all(_equal(found[name], each) for name, each in expected.items())


def _equal(one: Any, other: Any) -> bool:
    ours, theirs = jax.tree.flatten(one), jax.tree.flatten(other)
    return ours[1] == theirs[1] and all(map(np.array_equal, ours[0], theirs[0]))


# The head, which spares a run its text tower.

WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3)


def _make_head(folder: Path) -> None:
    kept_head.keep_head(folder, WEIGHTS, "0" * 64)


def _is_the_head(folder: Path, found: np.ndarray | None) -> bool:
    return found is None or (found.dtype == WEIGHTS.dtype and np.array_equal(found, WEIGHTS))


def _any_file(data: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.05:
        return b""
    return (in_text_or_bytes if draw.random() < 0.7 else mutate.of_bytes)(data, draw)


KINDS = {
    "checkpoint, resumed": Kind(
        f"{CHECKPOINTS}/**/*", _make, _resumed, _any_file, _as_saved, cost=10, native=True
    ),
    "checkpoint, evaluated": Kind(
        "*/[0-9]*/**/*", _make, _evaluated, _any_file, _as_merged, cost=10, native=True
    ),
    "head": Kind(
        HEAD, _make_head, lambda f: kept_head._kept(f, "0" * 64), in_safetensors, _is_the_head
    ),
}
