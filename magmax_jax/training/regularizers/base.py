"""What a regularizer is, and the two that are one line: none, and the pull towards theta_0."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import optax

from magmax_jax.data import Batch
from magmax_jax.training.step import Forward, Memory, Objective, Params, Penalty


class Regularizer(NamedTuple):
    """A way to learn a task without leaving the tasks before, as pure functions.

    The memory is a pytree of arrays whose size does not grow with the tasks: it can be jitted,
    sharded and written to disk. It may hold the very arrays that it was given, so donate neither
    those nor the memory while the other is needed.

    Attributes:
      init: theta_0 -> memory, before any task.
      penalty: (memory, theta, forward pass) -> what is added to a step's loss, float32 scalar;
        differentiable in theta and in the features. None for nothing.
      consolidate: (memory, theta_t, the task's training batches, its objective) -> memory, once
        after every task, in their order.
    """

    init: Callable[[Params], Memory]
    penalty: Penalty | None
    consolidate: Callable[[Memory, Params, Iterable[Batch], Objective], Memory]


def none() -> Regularizer:
    """Plain fine-tuning: no penalty, nothing to remember, and no cost."""
    return Regularizer(lambda theta_0: (), None, lambda memory, params, batches, objective: memory)


def l2_sp(strength: float) -> Regularizer:
    """A pull back to the pretrained model, the "starting point".

        penalty = strength / 2 * |theta - theta_0|^2

    Li, Grandvalet & Davoine, 2018 (arXiv 1802.01483, eq. 2 without the term for a new head: ours is
    frozen). They choose the strength by cross-validation, so there is no default. Unlike the other
    regularizers it remembers no task, so it also suits independent fine-tuning. It acts on top of
    the recipe's weight decay, which pulls towards zero.

    Memory: theta_0.
    """

    def penalty(memory: Params, params: Params, forward: Forward) -> jax.Array:
        tau = jax.tree.map(lambda new, old: new - old, params, memory)
        return strength / 2 * optax.tree.norm(tau, squared=True)

    return Regularizer(
        lambda theta_0: theta_0, penalty, lambda memory, params, batches, objective: memory
    )
