"""Data-incremental: every task brings more images of the same classes."""

import numpy as np

from magmax_jax.config import ScenarioConfig
from magmax_jax.registry import SCENARIO_KINDS
from magmax_jax.scenarios.kinds.base import Data, Division, ScenarioKind, numbered


def divide(config: ScenarioConfig, data: Data, seed: int) -> Division:
    """Every task gets an equal share of each class's images, training and test, drawn at random."""
    num_tasks = config.num_tasks
    shares = []
    for split, part in enumerate(data.parts):
        shuffled = np.random.default_rng([seed, 2 + split]).permutation(np.flatnonzero(part.kept))
        by_class = shuffled[np.argsort(part.source.labels[shuffled], kind="stable")]
        task_of = np.full(len(part.source), -1)
        # Dealt out like cards, class after class: what one leaves over goes on with the next.
        task_of[by_class] = np.arange(len(by_class)) % num_tasks
        shares.append(task_of)
    classes = [np.arange(len(data.train.class_names))] * num_tasks
    train, test = shares
    return Division(numbered(num_tasks), classes, (train, test))


SCENARIO_KINDS.register(
    "data", ScenarioKind("data-incremental", divide, parts="shares", numbered=True)
)
