"""A sequence of data sets: every task brings another one, with its own head."""

from itertools import pairwise

import numpy as np

from magmax_jax.config import ScenarioConfig
from magmax_jax.registry import SCENARIO_KINDS
from magmax_jax.scenarios.kinds.base import Data, Division, ScenarioKind


def divide(config: ScenarioConfig, data: Data, seed: int) -> Division:
    """One task per data set, with its own classes."""
    train, test = (
        np.searchsorted(data.starts, part.source.labels, side="right") - 1 for part in data.parts
    )
    bounds = [*data.starts, len(data.train.class_names)]
    classes = [np.arange(start, stop) for start, stop in pairwise(bounds)]
    names = [member.name for member in data.members]
    return Division(names, classes, (train, test), [member.epochs for member in data.members])


SCENARIO_KINDS.register(
    "datasets",
    ScenarioKind(
        title="one after another",
        divide=divide,
        shares=lambda config, classes, domains: [1.0],
        parts="data sets",
        reads=("datasets",),
        task_aware=True,
    ),
)
