"""A stream of tasks over one data set: class-incremental or domain-incremental."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from magmax_jax.config import ScenarioConfig
from magmax_jax.data import published
from magmax_jax.data.catalogue import DEFAULT_EPOCHS, epochs
from magmax_jax.data.sources import Source, load_source, rank_in_group
from magmax_jax.errors import UserError


@dataclass(frozen=True)
class Task:
    """What is learned at one time."""

    name: str
    train: np.ndarray
    """int64 (n,), ascending positions in the scenario's training source."""
    test: np.ndarray
    """int64 (m,), ascending positions in its test source."""
    classes: np.ndarray
    """int64 (k,), the class ids that the task covers, in the order learned."""
    epochs: int = DEFAULT_EPOCHS
    """Published number of passes over the training images."""


@dataclass(frozen=True)
class Scenario:
    """t tasks in the order in which they arrive, over k classes."""

    name: str
    train: Source
    test: Source
    tasks: tuple[Task, ...]
    class_names: tuple[str, ...]
    """As put into prompts; position is the class id."""
    templates: tuple[str, ...]
    """Prompts, {} standing for the class name."""

    @property
    def task_of(self) -> np.ndarray:
        """int32 (len(test),): each test image's task, -1 where `limit_per_class` left it out."""
        task_of = np.full(len(self.test), -1, np.int32)
        for number, task in enumerate(self.tasks):
            task_of[task.test] = number
        return task_of

    @property
    def num_test(self) -> int:
        """Test images of all tasks."""
        return sum(len(task.test) for task in self.tasks)

    @property
    def class_masks(self) -> np.ndarray:
        """bool (t, k): whether the task covers the class."""
        masks = np.zeros((len(self.tasks), len(self.class_names)), bool)
        for number, task in enumerate(self.tasks):
            masks[number, task.classes] = True
        return masks


def build_scenario(config: ScenarioConfig, seed: int) -> Scenario:
    """Loads the data set and divides it into tasks; `seed` decides a random order alone.

    Raises:
      UserError: the data set cannot be read, or does not divide as the configuration says.
    """
    train = load_source(config.dataset, "train", config.data_dir)
    test = load_source(config.dataset, "test", config.data_dir)
    _check_same(config.dataset, "class", train.class_names, test.class_names)
    _check_same(config.dataset, "domain", train.domain_names, test.domain_names)
    divide = {"class": _class_tasks, "domain": _domain_tasks}[config.kind]
    is_folder = config.dataset == "folder" and config.data_dir
    dataset = Path(config.data_dir).name if is_folder else config.dataset
    return Scenario(
        name=f"{dataset}, {config.kind}-incremental",
        train=train,
        test=test,
        tasks=divide(config, train, test, seed),
        class_names=published.prompt_names(config.dataset, train.class_names),
        templates=config.templates or published.templates(config.dataset),
    )


def _class_tasks(
    config: ScenarioConfig, train: Source, test: Source, seed: int
) -> tuple[Task, ...]:
    """Task i of T takes positions floor(n i / T) to floor(n (i + 1) / T) of n classes' order."""
    count, num_tasks = len(train.class_names), config.num_tasks
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
    order = _order(config, train.class_names, seed)
    position = np.argsort(order)  # class id -> its place in the order
    task_of_class = np.searchsorted(bounds, position, side="right") - 1
    names = [f"task {i + 1}" for i in range(num_tasks)]
    classes = [order[start:stop] for start, stop in pairwise(bounds)]
    tasks_of_images = task_of_class[train.labels], task_of_class[test.labels]
    return _tasks(config, names, classes, (train, test), tasks_of_images)


def _domain_tasks(
    config: ScenarioConfig, train: Source, test: Source, seed: int
) -> tuple[Task, ...]:
    """One task a domain; each covers all classes."""
    if train.domains is None or test.domains is None:
        raise UserError(
            f"{config.dataset} has no domains: use kind class, or a folder laid out as "
            "{train,test}/domain/class/*"
        )
    order = _order(config, train.domain_names, seed)
    task_of_domain = np.argsort(order)
    names = [train.domain_names[domain] for domain in order]
    classes = [np.arange(len(train.class_names))] * len(names)
    tasks_of_images = task_of_domain[train.domains], task_of_domain[test.domains]
    return _tasks(config, names, classes, (train, test), tasks_of_images)


def _tasks(config, names, classes, sources, tasks_of_images) -> tuple[Task, ...]:
    """Tasks from each image's task number; of every class (and domain) the first ones are kept."""
    kept = [_within_limit(source, config.limit_per_class) for source in sources]
    tasks = []
    for number, (name, covered) in enumerate(zip(names, classes, strict=True)):
        train, test = (
            np.flatnonzero((task_of == number) & keep)
            for task_of, keep in zip(tasks_of_images, kept, strict=True)
        )
        for split, chosen in (("training", train), ("test", test)):
            if not len(chosen):
                raise UserError(f"{config.dataset}: {name} has no {split} images; add some to it")
        tasks.append(Task(name, train, test, covered, epochs(config.dataset)))
    return tuple(tasks)


def _within_limit(source: Source, limit: int | None) -> np.ndarray:
    """bool (n,): whether the image is among the first `limit` of its class and domain."""
    groups = source.labels.astype(np.int64)
    if source.domains is not None:
        groups = groups + source.domains.astype(np.int64) * len(source.class_names)
    return rank_in_group(groups) < (len(source) if limit is None else limit)


def _order(config: ScenarioConfig, names: tuple[str, ...], seed: int) -> np.ndarray:
    """int64 (len(names),): the order in which classes or domains arrive."""
    if config.order == "random":
        return np.random.default_rng(seed).permutation(len(names))
    if config.order == "published":
        order = published.order(config.dataset, names)
        if order is not None:
            return order
    return np.arange(len(names))


def _check_same(dataset: str, what: str, train: tuple[str, ...], test: tuple[str, ...]) -> None:
    if train == test:
        return
    for split, other, extra in (
        ("train", "test", sorted(set(train) - set(test))),
        ("test", "train", sorted(set(test) - set(train))),
    ):
        if extra:
            raise UserError(
                f"{dataset}: {what} {', '.join(extra[:5])} is in {split} but not in {other}; both "
                "must hold the same ones"
            )
    raise UserError(f"{dataset}: train and test list the same {what} names in different orders")
