"""The definition of a kind of scenario: how it divides data into tasks, and related facts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from magmax_jax.config import ScenarioConfig
from magmax_jax.data import published
from magmax_jax.data.source import Source
from magmax_jax.scenarios.datasets_list import Member


class Part(NamedTuple):
    """One split of the data, and which of its images are used.

    Attributes:
      source: all images.
      kept: bool (n,), the images that `limit_per_class` leaves.
    """

    source: Source
    kept: np.ndarray


class Data(NamedTuple):
    """The data to divide.

    Attributes:
      members: the data sets that were joined; a single one unless the kind reads several.
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
    """The division of data among tasks.

    Attributes:
      names: t names of the tasks, in order.
      classes: t arrays int64, each task's classes in learning order.
      task_of: int (n,) for either split, each image's task.
      epochs: t numbers, per task; None for the published number of the first data set.
    """

    names: Sequence[str]
    classes: Sequence[np.ndarray]
    task_of: tuple[np.ndarray, np.ndarray]
    epochs: Sequence[int] | None = None


def even_shares(config: ScenarioConfig, classes: int, domains: int) -> list[float]:
    """Equal shares, one per task."""
    num_tasks = config.tasks_of(classes)
    return [1 / num_tasks] * num_tasks


@dataclass(frozen=True)
class ScenarioKind:
    """An entry of `SCENARIO_KINDS`: a kind of scenario, and facts that others consult."""

    title: str
    """The kind of increments, shown after the data's name: "class-incremental"."""
    divide: Callable[[ScenarioConfig, Data, int], Division]
    """(configuration, data, seed) -> the division. May raise a UserError."""
    shares: Callable[[ScenarioConfig, int, int], Sequence[float]] = even_shares
    """(configuration, classes, domains) -> the share of one data set's images that each of its
    tasks gets, for plans made before the data is available."""
    parts: str = "tasks"
    """What the tasks are, in the plural, for tables: "domains"."""
    reads: tuple[str, ...] = ("dataset", "num_tasks")
    """Those of the fields `dataset`, `datasets` and `num_tasks` that apply."""
    task_aware: bool = False
    """Whether the published figure is the mean over tasks of the accuracy among each task's own
    classes; if not, it is the accuracy on all images among all classes."""
    numbered: bool = False
    """Whether tasks are named by their position, whatever they contain."""
    tasks_are_domains: bool = False
    """Whether tasks are the domains, so that accuracies by domain would repeat those by task."""
    published_divisor: Literal["tasks", "two"] = "tasks"
    """`merging.average_divisor` of the published experiments, for `--preset paper`."""

    @property
    def reads_several(self) -> bool:
        """Whether it reads several data sets, each with its own head."""
        return "datasets" in self.reads

    def data(self, config: ScenarioConfig) -> str | tuple[str, ...]:
        """The data set or list of data sets that a configuration names."""
        return config.datasets if self.reads_several else config.dataset

    def name(self, datasets: Sequence[str]) -> str:
        """A scenario's name: "cifar100, class-incremental"."""
        what = f"{len(datasets)} {self.parts}" if self.reads_several else datasets[0]
        return f"{what}, {self.title}"

    def short_name(self, config: ScenarioConfig, datasets: Sequence[str]) -> str:
        """For a table's column: "cifar100, 10 tasks"."""
        if self.reads_several:
            return f"{len(datasets)} {self.parts}"
        is_set = "num_tasks" in self.reads and config.num_tasks is not None
        count = f"{config.num_tasks} " if is_set else ""
        return f"{datasets[0]}, {count}{self.parts}"


def arrival_order(config: ScenarioConfig, names: tuple[str, ...], seed: int) -> np.ndarray:
    """int64 (len(names),): the order in which classes or domains arrive."""
    if config.order == "random":
        return np.random.default_rng(seed).permutation(len(names))
    if config.order == "published":
        order = published.order(config.dataset, names)
        if order is not None:
            return order
    return np.arange(len(names))


def numbered(count: int) -> list[str]:
    """Names for unnamed tasks: task 1, task 2, ..."""
    return [f"task {i + 1}" for i in range(count)]
