"""AdamW on clipped gradients, and masking of frozen entries."""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from magmax_jax.config import TrainConfig

B2 = 0.999
"""The decay of Adam's second moments."""


def adamw(config: TrainConfig) -> optax.GradientTransformation:
    """AdamW without the learning rate: a step subtracts its update times the schedule's rate.

    Gradients are clipped by their global norm; weight decay is decoupled, on every entry.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.scale_by_adam(b1=0.9, b2=B2, eps=1e-8),
        optax.add_decayed_weights(config.weight_decay),
    )


def second_moments(state: optax.OptState) -> nnx.State:
    """Adam's bias-corrected second moments v, in the parameters' shapes; 0 for frozen entries.

    Args:
      state: of `adamw`, after at least one step. Its second moments' buffers are donated to v.
    """
    return _corrected_moments(optax.tree.get(state, "nu"), optax.tree.get(state, "count"))


@partial(jax.jit, donate_argnums=0)
def _corrected_moments(moments: nnx.State, count: jax.Array) -> nnx.State:
    return optax.tree.bias_correction(moments, B2, count)


def unfrozen(tree: nnx.State, trainable: nnx.State | None) -> nnx.State:
    """A gradient or an update with zeros for frozen entries.

    Args:
      tree: like the parameters.
      trainable: bools that broadcast to it, False for frozen; None freezes nothing.
    """
    if trainable is None:
        return tree
    return jax.tree.map(lambda train, x: jnp.where(train, x, 0), trainable, tree)
