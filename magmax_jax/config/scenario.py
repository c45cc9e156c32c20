"""The tasks: what each brings, and in which order they arrive."""

from dataclasses import dataclass
from typing import Annotated, Literal

from magmax_jax.config.checks import require
from magmax_jax.config.registered import listing, one_of
from magmax_jax.registry import DATA_SETS, SCENARIO_KINDS


@dataclass(frozen=True)
class ScenarioConfig:
    """Which tasks arrive, in which order."""

    kind: Annotated[str, one_of(SCENARIO_KINDS)] = "class"
    """What each task brings. class: new classes; domain: a new domain of all classes; datasets:
    another data set, with its own head; data: an equal share of every class's images."""
    dataset: Annotated[str, listing(DATA_SETS)] = "cifar100"
    """Name of a data set, folder (images in [train|test/][domain/]class/*), or any TFDS builder
    with image and label."""
    datasets: tuple[str, ...] = ("eight",)
    """For kind datasets: NAME[@EPOCHS] or folder:DIR[@EPOCHS] each, in learning order, or a list
    from the literature: eight, fourteen (13 of them) or twenty (18); TFDS lacks the others."""
    data_dir: str | None = None
    """Directory of prepared TFDS data sets (default: TFDS's own), or the folder of images."""
    num_tasks: int | None = 10
    """Number of tasks for kinds class and data; others have one task per domain or data set. None:
    a task for every two classes, 10 at most."""
    allow_unequal: bool = False
    """Allow tasks with different numbers of classes: task i takes classes floor(n i / T) to
    floor(n (i+1) / T)."""
    order: Literal["published", "natural", "random"] = "published"
    """Order of classes, domains or data sets. published: as in the paper, natural if there is none;
    natural: as in the data set or list; random: a permutation drawn from the seed."""
    shuffle_tasks: bool = False
    """Keep the tasks, but learn them in an order drawn from the seed."""
    limit_per_class: int | None = None
    """Keep at most this many training and this many test images of each class (and domain)."""
    validation: float = 0.0
    """Share of each class's (and domain's) training images held out of training, to choose the
    scale of a merge."""
    templates: tuple[str, ...] = ()
    """Prompts, with {} in place of the class name; not set: the data set's published prompts."""
    names: Literal["published", "plain", "folder"] = "published"
    """Class names in prompts. published: as in the paper, which keeps cifar100's underscores
    ("aquarium_fish"); your own data's WordNet ids become names, and leading numbers are dropped.
    plain: the same with spaces; folder: the folder names, with spaces."""

    def __post_init__(self) -> None:
        SCENARIO_KINDS.check(self.kind)
        count = self.num_tasks
        require(count is None or count > 0, f"scenario.num_tasks is {count}: it must be positive")
        limit = self.limit_per_class
        require(
            limit is None or limit > 0, f"scenario.limit_per_class is {limit}: it must be positive"
        )
        share = self.validation
        require(0 <= share < 1, f"scenario.validation is {share}: it must be in [0, 1)")
        for template in self.templates:
            require(
                "{}" in template,
                f"scenario.templates: {template!r} has no {{}} for the class name",
            )

    def tasks_of(self, classes: int) -> int:
        """`num_tasks`, which may depend on the number of classes.

        >>> ScenarioConfig(num_tasks=None).tasks_of(5)
        2
        """
        return self.num_tasks or min(10, max(1, classes // 2))
