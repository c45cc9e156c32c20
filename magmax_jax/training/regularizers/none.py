"""Plain fine-tuning: no regularizer."""

from magmax_jax.registry import REGULARIZERS
from magmax_jax.training.regularizers.base import Regularizer, RegularizerSpec


def none() -> Regularizer:
    """Plain fine-tuning: no penalty, no memory, no cost."""
    return Regularizer(lambda theta_0: (), None, lambda memory, params, batches, objective: memory)


REGULARIZERS.register(
    "none", RegularizerSpec(None, lambda setup: none(), needs_previous_task=False)
)
