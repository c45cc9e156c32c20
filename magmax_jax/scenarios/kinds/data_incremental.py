"""Data-incremental: every task brings more images of the same classes."""

import numpy as np

from magmax_jax.config import ScenarioConfig
from magmax_jax.registry import SCENARIO_KINDS
from magmax_jax.scenarios.kinds.base import Data, Division, Part, ScenarioKind, numbered


def divide(config: ScenarioConfig, data: Data, seed: int) -> Division:
    """Every task gets an equal share of each class's images, training and test, drawn at random."""
    num_tasks = config.tasks_of(len(data.train.class_names))
    train, test = (_deal(part, num_tasks, [seed, 2 + i]) for i, part in enumerate(data.parts))
    classes = [np.arange(len(data.train.class_names))] * num_tasks
    return Division(numbered(num_tasks), classes, (train, test))


def _deal(part: Part, num_tasks: int, seed: list[int]) -> np.ndarray:
    """int64 (n,): each image's task, -1 for images that are not used."""
    shuffled = np.random.default_rng(seed).permutation(np.flatnonzero(part.kept))
    by_class = shuffled[np.argsort(part.source.labels[shuffled], kind="stable")]
    task_of = np.full(len(part.source), -1)
    # Dealt like cards (round-robin), class after class, carrying on across classes.
    task_of[by_class] = np.arange(len(by_class)) % num_tasks
    return task_of


SCENARIO_KINDS.register(
    "data", ScenarioKind("data-incremental", divide, parts="shares", numbered=True)
)
