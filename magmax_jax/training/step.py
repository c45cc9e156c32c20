"""One step of fine-tuning the image tower: compiled once, for every task of a run."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from magmax_jax.config import TrainConfig
from magmax_jax.data import Batch, Preprocessing, Views
from magmax_jax.models import normalise
from magmax_jax.sharding import Layout, one_device
from magmax_jax.training.accumulation import mean_over_parts
from magmax_jax.training.schedule import warmup_cosine

Params = nnx.State
"""The image tower's parameters, float32."""


class Objective(NamedTuple):
    """What differs between tasks; all of it arrays, so that no task compiles anything again.

    Attributes:
      head: the zero-shot head over every class of the scenario, float32 (p, k).
      classes: bool (k,), the classes that this task's loss ranges over.
      warmup: int32 scalar, steps of warm-up.
      steps: int32 scalar, steps of the task.
      key: the task's random key.
    """

    head: jax.Array
    classes: jax.Array
    warmup: jax.Array
    steps: jax.Array
    key: jax.Array


class TrainState(NamedTuple):
    """What a step turns into the next: parameters, Adam's moments, int32 step within the task."""

    params: Params
    moments: optax.OptState
    step: jax.Array


class Metrics(NamedTuple):
    """float32 scalars of one step: the mean loss, and the norm of its gradient before clipping."""

    loss: jax.Array
    gradient_norm: jax.Array


class Trainer(NamedTuple):
    """Fine-tuning as two jitted functions, and what brings them their batches.

    Attributes:
      init: params -> the state at a task's start; it copies, so that `params` survive.
      step: (state, batch, objective) -> (state, metrics); the old state's buffers become the new
        one's.
      place: the host's rows of a batch -> the batch on the devices.
    """

    init: Callable[[Params], TrainState]
    step: Callable[[TrainState, Batch, Objective], tuple[TrainState, Metrics]]
    place: Callable[[Batch], Batch]


def make_trainer(
    tower: nnx.GraphDef,
    preprocessing: Preprocessing,
    config: TrainConfig,
    layout: Layout | None = None,
) -> Trainer:
    """AdamW on the cross-entropy of the frozen head, gradients clipped by their global norm.

    Args:
      tower: the image tower without its parameters.
      preprocessing: from uint8 images to the tower's pixels, on the device.
      config: the recipe.
      layout: where parameters and batches lie; one device by default.
    """
    layout = layout or one_device()
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8),
        optax.add_decayed_weights(config.weight_decay),
    )

    @jax.jit
    def init(params: Params) -> TrainState:
        params = jax.tree.map(jnp.copy, params)
        return layout.constrain(TrainState(params, optimizer.init(params), jnp.int32(0)))

    def loss_fn(params: Params, pixels: jax.Array, batch: Batch, objective: Objective) -> jax.Array:
        features = normalise(nnx.merge(tower, params)(pixels))
        logits = features @ objective.head  # (b, k)
        losses = cross_entropy(logits, batch.label, objective.classes, config.label_smoothing)
        # Selected, not multiplied: padding's label may lie outside the task, its loss be infinite.
        return jnp.sum(jnp.where(batch.mask, losses, 0)) / jnp.sum(batch.mask)

    @jax.jit(donate_argnums=0)
    def train_step(state: TrainState, batch: Batch, objective: Objective):
        key = jax.random.fold_in(objective.key, state.step)
        views = preprocessing.draw(key, batch.box, config.crop_scale)  # of all parts at once

        def gradient(batch: Batch, views: Views) -> tuple[jax.Array, Params]:
            pixels = preprocessing.show(batch.image, views)
            return jax.value_and_grad(loss_fn)(state.params, pixels, batch, objective)

        loss, gradients = mean_over_parts(gradient, config.accumulate, batch, views)
        updates, moments = optimizer.update(gradients, state.moments, state.params)
        rate = warmup_cosine(state.step, config.learning_rate, objective.warmup, objective.steps)
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
        metrics = Metrics(loss, optax.tree.norm(gradients))
        return layout.constrain(TrainState(params, moments, state.step + 1)), metrics

    return Trainer(init, train_step, layout.batch)


def cross_entropy(
    logits: jax.Array, labels: jax.Array, classes: jax.Array, smoothing: float = 0.0
) -> jax.Array:
    """-sum_k q_k log softmax(logits over `classes`)_k, q smoothed over those classes.

    Args:
      logits: float (b, k).
      labels: int (b,), each one of `classes`.
      classes: bool (k,); a head of one width serves every task, the others' classes masked out.
      smoothing: share of q that is spread evenly, in [0, 1).

    Returns:
      float (b,).
    """
    log_p = jax.nn.log_softmax(jnp.where(classes, logits, -jnp.inf))
    hit = jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
    spread = jnp.sum(jnp.where(classes, log_p, 0), axis=1) / jnp.sum(classes)
    return -(1 - smoothing) * hit - smoothing * spread
