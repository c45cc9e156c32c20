"""Divides data into tasks: the part shared by all kinds of scenarios."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from magmax_jax.config import ScenarioConfig
from magmax_jax.data.source import Source, rank_in_group
from magmax_jax.errors import UserError
from magmax_jax.registry import SCENARIO_KINDS
from magmax_jax.scenarios.datasets_list import Member
from magmax_jax.scenarios.kinds.base import Data, Division, Part
from magmax_jax.scenarios.scenario import Task


def divide(
    config: ScenarioConfig,
    members: Sequence[Member],
    starts: np.ndarray,
    train: Source,
    test: Source,
    seed: int,
) -> tuple[Task, ...]:
    """The tasks in the order in which they arrive.

    Args:
      members: the data sets in `train` and `test`.
      train: has no images if the scenario is only for evaluation.
      starts: int (m,), the first class id of each.
      seed: for random orders and shares.

    Raises:
      UserError: the data does not divide as the configuration says, or a task has no images.
    """
    limit = config.limit_per_class
    parts = Part(train, _kept(train, limit)), Part(test, _kept(test, limit))
    data = Data(members, starts, parts)
    kind = SCENARIO_KINDS[config.kind]
    division = kind.divide(config, data, seed)
    held = _held_out(config.validation, division, data, seed)
    tasks = [_task(number, division, data, held) for number in range(len(division.names))]
    if config.shuffle_tasks:
        # A separate random stream from the order's: both may be random, from one seed.
        order = np.random.default_rng([seed, 1]).permutation(len(tasks))
        tasks = [tasks[i] for i in order]
        if kind.numbered:
            tasks = [replace(t, name=n) for t, n in zip(tasks, division.names, strict=True)]
    return tuple(tasks)


def _task(number: int, division: Division, data: Data, held: np.ndarray) -> Task:
    name = division.names[number]
    train, test = (
        np.flatnonzero((task_of == number) & part.kept)
        for task_of, part in zip(division.task_of, data.parts, strict=True)
    )
    train, validation = train[~held[train]], train[held[train]]
    for split, chosen, part in zip(("training", "test"), (train, test), data.parts, strict=True):
        if not len(chosen) and len(part.source):
            raise UserError(f"{data.members[0].name}: {name} has no {split} images; add some to it")
    return Task(
        name=name,
        train=train,
        test=test,
        classes=division.classes[number],
        epochs=data.members[0].epochs if division.epochs is None else division.epochs[number],
        validation=validation,
    )


def _kept(source: Source, limit: int | None) -> np.ndarray:
    """bool (n,): whether the image is among the first `limit` of its class and domain."""
    return rank_in_group(_groups(source)) < (len(source) if limit is None else limit)


def _held_out(share: float, division: Division, data: Data, seed: int) -> np.ndarray:
    """bool (n,) over training images: a share, rounded up, per task, class and domain.

    They are drawn with the seed; at least one image is left to train on.
    """
    source, kept = data.parts[0]
    held = np.zeros(len(source), bool)
    if not share:
        return held
    groups = _groups(source) * (len(division.names) + 1) + division.task_of[0]
    shuffled = np.random.default_rng([seed, 4]).permutation(np.flatnonzero(kept))
    _, group_of, sizes = np.unique(groups[shuffled], return_inverse=True, return_counts=True)
    wanted = np.minimum(np.ceil(share * sizes), sizes - 1)
    held[shuffled] = rank_in_group(group_of) < wanted[group_of]
    return held


def _groups(source: Source) -> np.ndarray:
    """int64 (n,): a number for each class and domain."""
    groups = source.labels.astype(np.int64)
    if source.domains is not None:
        groups = groups + (source.domains.astype(np.int64) + 1) * len(source.class_names)
    return groups
