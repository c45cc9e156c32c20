"""Scenarios and their tasks."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import gcd
from typing import NamedTuple

import numpy as np

from magmax_jax.config import ExperimentConfig
from magmax_jax.data.data_set import DEFAULT_EPOCHS
from magmax_jax.data.source import Source


@dataclass(frozen=True)
class Task:
    """A task: images and classes that are learned together."""

    name: str
    train: np.ndarray
    """int64 (n,), positions in the scenario's training source."""
    test: np.ndarray
    """int64 (m,), ascending positions in its test source."""
    classes: np.ndarray
    """int64 (k,), the class ids that the task covers, in learning order."""
    epochs: int = DEFAULT_EPOCHS
    """Published number of passes over the training images."""
    validation: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """int64 (v,), ascending positions in the training source that are not in `train`."""


class Head(NamedTuple):
    """The classes of one classifier, and the prompts that define it.

    Attributes:
      class_names: as used in prompts, by ascending class id.
      templates: prompts, with {} in place of the class name.
    """

    class_names: tuple[str, ...]
    templates: tuple[str, ...]


@dataclass(frozen=True)
class Scenario:
    """t tasks in the order in which they arrive, over k classes."""

    name: str
    train: Source
    test: Source
    tasks: tuple[Task, ...]
    heads: tuple[Head, ...]
    """One over all classes, or one per data set; class ids continue from head to head."""
    domain_names: tuple[str, ...] = ()
    """Domains by which test images are also counted; empty if the tasks are the domains."""
    notes: tuple[str, ...] = ()
    """What to know about the data before it is used, one sentence each."""

    @property
    def num_classes(self) -> int:
        """k, of all heads."""
        return sum(len(head.class_names) for head in self.heads)

    @property
    def head_of(self) -> np.ndarray:
        """int32 (k,): each class's head."""
        sizes = [len(head.class_names) for head in self.heads]
        return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)

    @property
    def task_of(self) -> np.ndarray:
        """int32 (len(test),): each test image's task, -1 if `limit_per_class` left it out."""
        task_of = np.full(len(self.test), -1, np.int32)
        for number, task in enumerate(self.tasks):
            task_of[task.test] = number
        return task_of

    @property
    def domain_of(self) -> np.ndarray:
        """int32 (len(test),): each test image's index in `domain_names`, -1 if it has none."""
        if self.domain_names and self.test.domains is not None:
            return self.test.domains
        return np.full(len(self.test), -1, np.int32)

    @property
    def num_test(self) -> int:
        """Number of test images of all tasks."""
        return sum(len(task.test) for task in self.tasks)

    @property
    def class_masks(self) -> np.ndarray:
        """bool (t, k): whether the task covers the class."""
        return np.stack([self.class_mask(task) for task in self.tasks])

    def class_mask(self, task: Task) -> np.ndarray:
        """bool (k,): whether the task covers the class."""
        return np.isin(np.arange(self.num_classes), task.classes)


def validating(scenario: Scenario) -> Scenario:
    """The scenario with its tasks' held-out images in place of its test images."""
    tasks = tuple(replace(task, test=task.validation) for task in scenario.tasks)
    return replace(scenario, test=scenario.train, tasks=tasks)


def curriculum(scenario: Scenario, config: ExperimentConfig) -> tuple[Task, ...]:
    """What is learned, one after another: the scenario's tasks, or one joint task.

    Jointly, every image is seen as often as in its own task: if tasks have different numbers of
    epochs, the images of the longer ones are repeated within an epoch.
    """
    if not config.method.joint:
        return scenario.tasks
    tasks = scenario.tasks
    common, times = at_once([config.train.epochs or task.epochs for task in tasks])
    images = [np.tile(task.train, n) for task, n in zip(tasks, times, strict=True)]
    test = np.sort(np.concatenate([task.test for task in tasks]))
    classes = np.arange(scenario.num_classes)
    return (Task("all tasks", np.concatenate(images), test, classes, common),)


def at_once(epochs: Sequence[int]) -> tuple[int, list[int]]:
    """Epochs of a joint task, and how often each task's images are repeated within an epoch.

    >>> at_once([4, 6])
    (2, [2, 3])
    """
    common = gcd(*epochs)
    return common, [number // common for number in epochs]
