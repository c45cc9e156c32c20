"""LwF: on the new task's images, the model keeps its old predictions for old classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from magmax_jax.registry import REGULARIZERS
from magmax_jax.training.regularizers.base import Regularizer, RegularizerSpec

if TYPE_CHECKING:
    import jax
    from flax import nnx

    from magmax_jax.data import Batch
    from magmax_jax.training.step import Forward, Objective, Params

PUBLISHED_STRENGTH = 0.3
EPSILON = 1e-5
"""Share of the new probabilities that is spread evenly, to keep logarithms finite."""


class Teacher(NamedTuple):
    """Memory of LwF: the next task's start, and bool (k,), the classes learned so far.

    All False means that no task was learned yet.
    """

    theta: Params
    classes: jax.Array


def lwf(
    tower: nnx.GraphDef,
    num_classes: int,
    strength: float = PUBLISHED_STRENGTH,
    temperature: float = 2.0,
) -> Regularizer:
    """Learning without forgetting (Li & Hoiem, 2016, arXiv 1606.09282).

        penalty = strength * mean over the batch of distillation(new logits, old logits)

    Both logits range over the classes of all earlier tasks: the frozen head is applied to the
    features of the same images from theta and from theta_(t-1) (if `method.start` is a merge, from
    the merge that the task starts from). That is the concatenation of the earlier tasks' heads when
    tasks bring classes, and the one head when they bring domains; if data sets have separate heads,
    each is distilled separately, and the terms are added. Strength and `EPSILON` are those of
    Marczak et al., 2024 (arXiv 2407.06322). Until the first task is learned, the penalty is 0 and
    the old model is not run.

    Args:
      tower: the image tower without its parameters.
      num_classes: k, of the whole scenario.
      strength: lambda.
      temperature: see `distillation`.

    Memory: one model. A step costs one extra forward pass; batches are not read.
    """

    import jax
    import jax.numpy as jnp

    from magmax_jax.models import image_features

    def init(theta_0: Params) -> Teacher:
        return Teacher(theta_0, jnp.zeros(num_classes, bool))

    def penalty(memory: Teacher, params: Params, forward: Forward) -> jax.Array:
        def distil() -> jax.Array:
            head, heads = forward.objective.head, forward.objective.heads
            features = image_features(tower, memory.theta, forward.pixels)
            new, old = forward.features @ head, features @ head  # (b, k) each
            losses = distillation(new, old, memory.classes, temperature, heads)
            samples = jnp.maximum(jnp.sum(forward.mask), 1)
            return strength * jnp.sum(jnp.where(forward.mask, losses, 0)) / samples

        return jax.lax.cond(jnp.any(memory.classes), distil, lambda: jnp.float32(0))

    def consolidate(
        memory: Teacher, params: Params, batches: Iterable[Batch[jax.Array]], objective: Objective
    ) -> Teacher:
        return Teacher(params, memory.classes | objective.classes)

    return Regularizer(init, penalty, consolidate)


def distillation(
    new: jax.Array,
    old: jax.Array,
    classes: jax.Array,
    temperature: float,
    heads: jax.Array | None = None,
) -> jax.Array:
    """-sum_k p_k log((q_k + eps / c) / (1 + eps)), over the c classes of `classes` in a head.

    p and q are softmax(old)^(1/T) and softmax(new)^(1/T), each renormalised, i.e.
    softmax(old / T) and softmax(new / T); eps is `EPSILON`, and smooths only q. Several heads have
    separate softmaxes, and their sums are added.

    Args:
      new, old: float (b, k), logits; gradients pass through both.
      classes: bool (k,), not all False.
      temperature: T.
      heads: int (k,) in [0, k), the head of each class; one by default.

    Returns:
      float (b,).
    """
    import jax
    import jax.numpy as jnp

    k = len(classes)
    heads = jnp.zeros(k, jnp.int32) if heads is None else heads

    def over_heads(reduce: Callable[..., jax.Array], values: jax.Array) -> jax.Array:
        """(..., k) -> (..., k): reduces over each head and gives every class its head's result."""
        return jnp.moveaxis(reduce(jnp.moveaxis(values, -1, 0), heads, k)[heads], 0, -1)

    def soften(logits: jax.Array) -> jax.Array:
        tempered = logits / temperature
        largest = over_heads(jax.ops.segment_max, jnp.where(classes, tempered, -jnp.inf))
        shifted = jnp.where(classes, tempered - jax.lax.stop_gradient(largest), 0)
        powers = jnp.where(classes, jnp.exp(shifted), 0)
        total = over_heads(jax.ops.segment_sum, powers)  # 0 for a head that is not learned yet
        return powers / jnp.where(total > 0, total, 1)

    # Other classes get eps, too: p is zero there, but log(0) would turn gradients into NaN.
    learned = over_heads(jax.ops.segment_sum, jnp.asarray(classes, jnp.float32))
    q = (soften(new) + EPSILON / jnp.maximum(learned, 1)) / (1 + EPSILON)
    return -jnp.sum(soften(old) * jnp.log(q), axis=1)


REGULARIZERS.register(
    "lwf",
    RegularizerSpec(
        title="LwF",
        build=lambda setup: lwf(setup.tower, setup.num_classes, setup.strength),
        strength=PUBLISHED_STRENGTH,
        passes_per_image=1,  # the teacher's
    ),
)
