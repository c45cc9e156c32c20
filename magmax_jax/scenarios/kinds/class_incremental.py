"""Class-incremental: every task brings new classes."""

from itertools import pairwise

import numpy as np

from magmax_jax.config import ScenarioConfig
from magmax_jax.errors import ConfigError, counted
from magmax_jax.registry import SCENARIO_KINDS
from magmax_jax.scenarios.kinds.base import Data, Division, ScenarioKind, arrival_order, numbered


def divide(config: ScenarioConfig, data: Data, seed: int) -> Division:
    """Task i of T takes positions floor(n i / T) to floor(n (i + 1) / T) of n classes' order."""
    count = len(data.train.class_names)
    num_tasks = config.tasks_of(count)
    bounds = _bounds(config, count)
    sizes = tuple(np.diff(bounds).tolist())
    if num_tasks > count:
        raise ConfigError(
            f"{config.dataset} has {counted(count, 'class')}; scenario.num_tasks={num_tasks} is "
            "more than that"
        )
    if len(set(sizes)) > 1 and not config.allow_unequal:
        shown = str(sizes) if num_tasks <= 10 else f"of {min(sizes)} to {max(sizes)} classes"
        raise ConfigError(
            f"{config.dataset} has {counted(count, 'class')}; scenario.num_tasks={num_tasks} "
            f"leaves unequal tasks {shown}: pass scenario.allow_unequal=True or a divisor"
        )
    order = arrival_order(config, data.train.class_names, seed)
    position = np.argsort(order)  # class id -> its position in the order
    task_of_class = np.searchsorted(bounds, position, side="right") - 1
    train, test = (task_of_class[part.source.labels] for part in data.parts)
    classes = [order[start:stop] for start, stop in pairwise(bounds)]
    return Division(numbered(num_tasks), classes, (train, test))


def _bounds(config: ScenarioConfig, count: int) -> list[int]:
    num_tasks = config.tasks_of(count)
    return [count * i // num_tasks for i in range(num_tasks + 1)]


def _shares(config: ScenarioConfig, classes: int, domains: int) -> list[float]:
    """Assumes that all classes have equally many images."""
    return [(stop - start) / classes for start, stop in pairwise(_bounds(config, classes))]


SCENARIO_KINDS.register("class", ScenarioKind("class-incremental", divide, _shares, numbered=True))
