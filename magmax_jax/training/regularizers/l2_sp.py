"""L2-SP: pulls parameters back to where fine-tuning started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magmax_jax.registry import REGULARIZERS
from magmax_jax.training.regularizers.base import Regularizer, RegularizerSpec

if TYPE_CHECKING:
    import jax

    from magmax_jax.training.step import Forward, Params


def l2_sp(strength: float) -> Regularizer:
    """A pull back to the pretrained model, the "starting point".

        penalty = strength / 2 * |theta - theta_0|^2

    Li, Grandvalet & Davoine, 2018 (arXiv 1802.01483, eq. 2 without the term for a new head: ours is
    frozen). They choose the strength by cross-validation, so there is no default. Unlike the other
    regularizers it remembers no task, so it also suits independent fine-tuning. It adds to the
    recipe's weight decay, which pulls towards zero.

    Memory: theta_0.
    """

    import jax
    import optax

    def penalty(memory: Params, params: Params, forward: Forward) -> jax.Array:
        tau = jax.tree.map(lambda new, old: new - old, params, memory)
        return strength / 2 * optax.tree.norm(tau, squared=True)

    return Regularizer(
        lambda theta_0: theta_0, penalty, lambda memory, params, batches, objective: memory
    )


REGULARIZERS.register(
    "l2_sp",
    RegularizerSpec("L2-SP", lambda setup: l2_sp(setup.strength), needs_previous_task=False),
)
