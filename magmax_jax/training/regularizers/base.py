"""What a regularizer is, and the facts of one that others consult.

The facts are read without JAX, by reports among others: it is imported where a penalty is built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from magmax_jax.config import MethodConfig

if TYPE_CHECKING:
    import jax
    from flax import nnx

    from magmax_jax.data import Batch, Preprocessing
    from magmax_jax.sharding import Layout
    from magmax_jax.training.step import Memory, Objective, Params, Penalty


class Regularizer(NamedTuple):
    """A way to learn a task without leaving the tasks before, as pure functions.

    The memory is a pytree of arrays whose size does not grow with the tasks: it can be jitted,
    sharded and written to disk. It may hold the very arrays that it was given, so donate neither
    those nor the memory while the other is needed.

    Attributes:
      init: theta_0 -> memory, before any task.
      penalty: (memory, theta, forward pass) -> what is added to a step's loss, float32 scalar;
        differentiable in theta and in the features. None for nothing.
      consolidate: (memory, theta, the task's training batches, its objective) -> memory, once
        after every task, in their order. theta is theta_t; if the penalty needs the task before,
        what the next task starts from, which `method.start` may make a merge.
    """

    init: Callable[[Params], Memory]
    penalty: Penalty | None
    consolidate: Callable[[Memory, Params, Iterable[Batch[jax.Array]], Objective], Memory]


@dataclass(frozen=True)
class Setup:
    """What a regularizer is built from."""

    tower: nnx.GraphDef
    """The image tower without its parameters."""
    preprocessing: Preprocessing
    """From uint8 images to the tower's pixels, on the device."""
    num_classes: int
    """k, of the whole scenario."""
    strength: float
    """Factor of the penalty: the configured one, else the published one; 0 for plain training."""
    method: MethodConfig
    """For fields of the regularizer's own (`RegularizerSpec.options`)."""
    layout: Layout
    """Where parameters lie."""


@dataclass(frozen=True)
class RegularizerSpec:
    """A regularizer as `REGULARIZERS` holds it: how to build it, and facts that others consult.

    Costs are counted in forward passes of the image tower, a gradient being two of them: plans and
    the overhead study go by them.
    """

    title: str | None
    """In tables and reports: "EWC". None: nothing is added, and a run is named by how its tasks
    start ("sequential")."""
    build: Callable[[Setup], Regularizer]
    strength: float | None = None
    """The published strength. None: there is none, and the configuration must set one."""
    passes_per_image: int = 0
    """Extra forward passes for each image of a training step."""
    passes_per_task: int = 0
    """Forward passes for each image that `consolidate` reads, once a task; 0 if it reads none."""
    images_option: str | None = None
    """Field of `MethodConfig` that limits how many of a task's training images `consolidate` reads,
    a random sample without replacement. None: it reads all."""
    needs_previous_task: bool = True
    """Whether the penalty holds a task to the one before: to where it starts, which must then not
    be theta_0."""
    options: tuple[str, ...] = ()
    """Fields of `MethodConfig` that this regularizer reads, beside `strength`."""
    published: Mapping[str, Any] = field(default_factory=dict)
    """Values of those fields in the published experiments, for `--preset paper`."""

    @property
    def is_plain(self) -> bool:
        """Whether this is training without a penalty."""
        return self.title is None

    def images_once(self, method: MethodConfig, images: int) -> int:
        """How many of a task's `images` training images `consolidate` reads."""
        limit = getattr(method, self.images_option) if self.images_option else None
        return images if limit is None else min(limit, images)
