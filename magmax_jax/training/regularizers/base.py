"""The interface of a regularizer, and the facts about one that others consult.

The facts are read without JAX, e.g. by reports: JAX is imported only when a penalty is built.
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
    """A way to learn a task without forgetting previous ones, as pure functions.

    The memory is a pytree of arrays whose size does not grow with the number of tasks: it can be
    jitted, sharded and written to disk. It may alias the arrays it was made from, so donate neither
    while the other is needed.

    Attributes:
      init: theta_0 -> memory, before any task.
      penalty: (memory, theta, forward pass) -> the term added to a step's loss, float32 scalar;
        differentiable in theta and in the features. None for no penalty.
      consolidate: (memory, theta, the task's training batches, its objective) -> memory, once after
        every task, in order. theta is theta_t; but if the penalty needs the previous task, theta is
        the next task's start, which may be a merge (`method.start`).
    """

    init: Callable[[Params], Memory]
    penalty: Penalty | None
    consolidate: Callable[[Memory, Params, Iterable[Batch[jax.Array]], Objective], Memory]


@dataclass(frozen=True)
class Setup:
    """The inputs for building a regularizer."""

    tower: nnx.GraphDef
    """The image tower without its parameters."""
    preprocessing: Preprocessing
    """From uint8 images to the tower's pixels, on the device."""
    num_classes: int
    """k, of the whole scenario."""
    strength: float
    """Factor of the penalty: the configured one, else the published one; 0 for plain training."""
    method: MethodConfig
    """For the regularizer's own fields (`RegularizerSpec.options`)."""
    layout: Layout
    """Where parameters are placed."""


@dataclass(frozen=True)
class RegularizerSpec:
    """An entry of `REGULARIZERS`: how to build a regularizer, and facts that others consult.

    Costs are in forward passes of the image tower, where a gradient counts as two; plans and the
    overhead study use them.
    """

    title: str | None
    """In tables and reports: "EWC". None: there is no penalty, and a run is named by how its tasks
    start ("sequential")."""
    build: Callable[[Setup], Regularizer]
    strength: float | None = None
    """The published strength. None: nothing is published, so the configuration must set one."""
    passes_per_image: int = 0
    """Extra forward passes for each image of a training step."""
    passes_per_task: int = 0
    """Forward passes for each image that `consolidate` reads, once per task; 0 if it reads none."""
    images_option: str | None = None
    """Field of `MethodConfig` that limits the number of a task's training images that `consolidate`
    reads, a random sample without replacement. None: it reads all."""
    needs_previous_task: bool = True
    """Whether the penalty pulls towards the previous task, i.e. the task's start, which then must
    not be theta_0."""
    options: tuple[str, ...] = ()
    """Fields of `MethodConfig` that this regularizer reads, besides `strength`."""
    published: Mapping[str, Any] = field(default_factory=dict)
    """Values of those fields in the published experiments, for `--preset paper`."""

    @property
    def is_plain(self) -> bool:
        """Whether this is training without a penalty."""
        return self.title is None

    def images_once(self, method: MethodConfig, images: int) -> int:
        """Number of a task's `images` training images that `consolidate` reads."""
        limit = getattr(method, self.images_option) if self.images_option else None
        return images if limit is None else min(limit, images)
