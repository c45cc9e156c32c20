"""The learning rate schedule of one task."""

import jax
import jax.numpy as jnp

from magmax_jax.config import TrainConfig


def warmup_steps(config: TrainConfig, steps: int) -> int:
    """Number of warm-up steps in a task of `steps` steps, configured as a number or a fraction."""
    if config.warmup_fraction is None:
        return config.warmup_steps
    return round(config.warmup_fraction * steps)


def peak_share(config: TrainConfig, steps: int) -> float:
    """The highest learning rate in a task of `steps` steps, as a share of the peak."""
    return min(1.0, steps / max(warmup_steps(config, steps), 1))


def warmup_cosine(step: jax.Array, peak: float, warmup: jax.Array, steps: jax.Array) -> jax.Array:
    """Linear warm-up, then cosine decay to zero, as in the official code.

        (step + 1) / warmup * peak                                         step < warmup
        (1 + cos(pi (step - warmup) / (steps - warmup))) / 2 * peak        otherwise

    A task with fewer steps than the warm-up never reaches the peak.

    Args:
      step: int scalar, 0 for a task's first.
      peak: the highest learning rate.
      warmup, steps: int scalars; traced, so tasks of all lengths share one compilation.
    """
    rising = (step + 1) / jnp.maximum(warmup, 1)
    progress = (step - warmup) / jnp.maximum(steps - warmup, 1)
    falling = 0.5 * (1 + jnp.cos(jnp.pi * progress))
    return peak * jnp.where(step < warmup, rising, falling)
