"""Dividing a data set, or several that were joined, into tasks."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from magmax_jax.config import ScenarioConfig
from magmax_jax.data import published
from magmax_jax.data.source import Source, rank_in_group
from magmax_jax.errors import UserError
from magmax_jax.scenarios.datasets_list import Member
from magmax_jax.scenarios.scenario import Task


class Part(NamedTuple):
    """One split of the data, and what of it takes part.

    Attributes:
      source: all of it.
      kept: bool (n,), what `limit_per_class` leaves.
    """

    source: Source
    kept: np.ndarray


class Data(NamedTuple):
    """What is divided.

    Attributes:
      members: the data sets that it was joined of, one but for kind datasets.
      starts: int (m,), the first class id of each.
      parts: the training and the test images.
    """

    members: Sequence[Member]
    starts: np.ndarray
    parts: tuple[Part, Part]

    @property
    def train(self) -> Source:
        return self.parts[0].source


class Division(NamedTuple):
    """Which task takes what.

    Attributes:
      names: t, of the tasks in their order.
      classes: t arrays int64, the classes of each in the order learned.
      task_of: int (n,) for either split, each image's task.
      epochs: t, of the tasks.
    """

    names: Sequence[str]
    classes: Sequence[np.ndarray]
    task_of: tuple[np.ndarray, np.ndarray]
    epochs: Sequence[int]


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
      members: the data sets that `train` and `test` were made of, one but for kind datasets.
      starts: int (m,), the first class id of each.
      seed: of random orders and shares.

    Raises:
      UserError: the data does not divide as the configuration says, or a task is without images.
    """
    parts = tuple(Part(source, _kept(source, config.limit_per_class)) for source in (train, test))
    data = Data(members, starts, parts)
    kinds = {"class": _by_class, "domain": _by_domain, "datasets": _by_dataset, "data": _evenly}
    division = kinds[config.kind](config, data, seed)
    held = _held_out(config.validation, division, data, seed)
    tasks = [_task(number, division, data, held) for number in range(len(division.names))]
    if config.shuffle_tasks:
        # Another stream of numbers than the order's: both may be random, of one seed.
        order = np.random.default_rng([seed, 1]).permutation(len(tasks))
        tasks = [tasks[i] for i in order]
        if config.kind in ("class", "data"):  # named by when they come, not by what they hold
            tasks = [replace(t, name=n) for t, n in zip(tasks, division.names, strict=True)]
    return tuple(tasks)


def _by_class(config: ScenarioConfig, data: Data, seed: int) -> Division:
    """Task i of T takes positions floor(n i / T) to floor(n (i + 1) / T) of n classes' order."""
    num_tasks, count = config.num_tasks, len(data.train.class_names)
    bounds = [count * i // num_tasks for i in range(num_tasks + 1)]
    sizes = tuple(np.diff(bounds).tolist())
    if num_tasks > count:
        raise UserError(
            f"{config.dataset} has {count} classes; num_tasks={num_tasks} is more than that"
        )
    if len(set(sizes)) > 1 and not config.allow_unequal:
        shown = str(sizes) if num_tasks <= 10 else f"of {min(sizes)} to {max(sizes)} classes"
        raise UserError(
            f"{config.dataset} has {count} classes; num_tasks={num_tasks} leaves unequal tasks "
            f"{shown}: pass allow_unequal=True or a divisor"
        )
    order = _order(config, data.train.class_names, seed)
    position = np.argsort(order)  # class id -> its place in the order
    task_of_class = np.searchsorted(bounds, position, side="right") - 1
    train, test = (task_of_class[part.source.labels] for part in data.parts)
    classes = [order[start:stop] for start, stop in pairwise(bounds)]
    return Division(_numbered(num_tasks), classes, (train, test), _epochs(data, num_tasks))


def _by_domain(config: ScenarioConfig, data: Data, seed: int) -> Division:
    """One task a domain; each covers all classes."""
    if any(part.source.domains is None for part in data.parts):
        raise UserError(
            f"{config.dataset} has no domains: use kind class, or a folder laid out as "
            "{train,test}/domain/class/*"
        )
    order = _order(config, data.train.domain_names, seed)
    train, test = (np.argsort(order)[part.source.domains] for part in data.parts)
    names = [data.train.domain_names[domain] for domain in order]
    classes = [np.arange(len(data.train.class_names))] * len(names)
    return Division(names, classes, (train, test), _epochs(data, len(names)))


def _by_dataset(config: ScenarioConfig, data: Data, seed: int) -> Division:
    """One task a data set, with classes of its own."""
    train, test = (
        np.searchsorted(data.starts, part.source.labels, side="right") - 1 for part in data.parts
    )
    bounds = [*data.starts, len(data.train.class_names)]
    classes = [np.arange(start, stop) for start, stop in pairwise(bounds)]
    names = [member.name for member in data.members]
    return Division(names, classes, (train, test), [member.epochs for member in data.members])


def _evenly(config: ScenarioConfig, data: Data, seed: int) -> Division:
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
    return Division(_numbered(num_tasks), classes, tuple(shares), _epochs(data, num_tasks))


def _task(number: int, division: Division, data: Data, held: np.ndarray) -> Task:
    name = division.names[number]
    train, test = (
        np.flatnonzero((task_of == number) & part.kept)
        for task_of, part in zip(division.task_of, data.parts, strict=True)
    )
    train, validation = train[~held[train]], train[held[train]]
    for split, chosen in (("training", train), ("test", test)):
        if not len(chosen):
            raise UserError(f"{data.members[0].name}: {name} has no {split} images; add some to it")
    classes, epochs = division.classes[number], division.epochs[number]
    return Task(name, train, test, classes, epochs, validation)


def _kept(source: Source, limit: int | None) -> np.ndarray:
    """bool (n,): whether the image is among the first `limit` of its class and domain."""
    return rank_in_group(_groups(source)) < (len(source) if limit is None else limit)


def _held_out(share: float, division: Division, data: Data, seed: int) -> np.ndarray:
    """bool (n,) over the training images: a share of each task's of a class and domain, rounded up.

    They are drawn from the seed; one image at least is left to train on.
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


def _order(config: ScenarioConfig, names: tuple[str, ...], seed: int) -> np.ndarray:
    """int64 (len(names),): the order in which classes or domains arrive."""
    if config.order == "random":
        return np.random.default_rng(seed).permutation(len(names))
    if config.order == "published":
        order = published.order(config.dataset, names)
        if order is not None:
            return order
    return np.arange(len(names))


def _numbered(count: int) -> list[str]:
    return [f"task {i + 1}" for i in range(count)]


def _epochs(data: Data, count: int) -> list[int]:
    return [data.members[0].epochs] * count
