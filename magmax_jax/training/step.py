"""One step of fine-tuning the image tower: compiled once, for every task of a run."""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from magmax_jax.config import TrainConfig
from magmax_jax.data import Batch, Preprocessing, Views
from magmax_jax.models import image_features
from magmax_jax.sharding import Layout, one_device
from magmax_jax.training.accumulation import mean_over_parts
from magmax_jax.training.optimizer import adamw, unfrozen
from magmax_jax.training.schedule import warmup_cosine

Params = nnx.State
"""The image tower's parameters, float32."""

Memory = Any
"""What a regularizer keeps from previous tasks: a pytree of arrays."""


class Objective(NamedTuple):
    """Everything that differs between tasks; arrays only, so no task triggers a recompile.

    Attributes:
      head: the zero-shot head over every class of the scenario, float32 (p, k).
      classes: bool (k,), the classes that this task's loss ranges over.
      heads: int32 (k,), the head of each class; a sample's loss ranges over its own head's.
      warmup: int32 scalar, steps of warm-up.
      steps: int32 scalar, steps of the task.
      key: the task's random key.
    """

    head: jax.Array
    classes: jax.Array
    heads: jax.Array
    warmup: jax.Array
    steps: jax.Array
    key: jax.Array


class Forward(NamedTuple):
    """A step's forward pass, input and output, as passed to the penalty.

    Attributes:
      pixels: float32 (b, size, size, 3), preprocessed.
      features: float32 (b, p), the image tower's, of unit length.
      mask: bool (b,), whether the row is a sample.
      objective: the task's.
    """

    pixels: jax.Array
    features: jax.Array
    mask: jax.Array
    objective: Objective


Penalty = Callable[[Memory, Params, Forward], jax.Array]
"""The term added to a step's loss: float32 scalar; for a batch, the mean over its samples."""


class TrainState(NamedTuple):
    """The state of training: parameters, Adam's moments, int32 step within the task."""

    params: Params
    moments: optax.OptState
    step: jax.Array


Number = TypeVar("Number")


class Metrics(NamedTuple, Generic[Number]):
    """One step's metrics: float32 scalars on the devices, floats once they are on the host.

    Attributes:
      loss: the minimised loss: mean cross-entropy plus penalty.
      gradient_norm: the norm of its gradient before clipping, without frozen entries.
      learning_rate: of this step.
      parameter_norm: the norm of all parameters after the step.
      update_norm: the norm of the step's update.
      penalty: the regularizer's share of the loss; None without a regularizer.
    """

    loss: Number
    gradient_norm: Number
    learning_rate: Number
    parameter_norm: Number
    update_norm: Number
    penalty: Number | None


class Trainer(NamedTuple):
    """Fine-tuning as two jitted functions, and the transfer of batches to devices.

    Attributes:
      init: params -> the state at a task's start; it copies, so `params` stay valid.
      step: (state, batch, objective, memory) -> (state, metrics); donates the old state's buffers.
        The memory is the regularizer's, and may be left out without one.
      place: the host's rows of a batch -> the batch on the devices.
    """

    init: Callable[[Params], TrainState]
    step: Callable[..., tuple[TrainState, Metrics[jax.Array]]]
    place: Callable[[Batch[np.ndarray]], Batch[jax.Array]]


def make_trainer(
    tower: nnx.GraphDef,
    preprocessing: Preprocessing,
    config: TrainConfig,
    penalty: Penalty | None = None,
    trainable: Params | None = None,
    layout: Layout | None = None,
) -> Trainer:
    """AdamW on the cross-entropy of the frozen head, gradients clipped by their global norm.

    Args:
      tower: the image tower without its parameters.
      preprocessing: from uint8 images to the tower's pixels, on the device.
      config: the recipe.
      penalty: a regularizer's; None adds nothing, not even a zero.
      trainable: bools that broadcast to the parameters, from `models.trainable`; where False, an
        entry keeps its bits and its gradient is ignored everywhere. None trains everything.
      layout: where parameters and batches are placed; one device by default.
    """
    layout = layout or one_device()
    optimizer = adamw(config)

    @jax.jit
    def init(params: Params) -> TrainState:
        params = jax.tree.map(jnp.copy, params)
        return layout.constrain(TrainState(params, optimizer.init(params), jnp.int32(0)))

    def loss_fn(
        params: Params,
        pixels: jax.Array,
        batch: Batch[jax.Array],
        objective: Objective,
        memory: Memory,
    ) -> tuple[jax.Array, jax.Array | None]:
        features = image_features(tower, params, pixels)
        logits = features @ objective.head  # (b, k)
        classes = own_classes(objective, batch)
        losses = cross_entropy(logits, batch.label, classes, config.label_smoothing)
        # `where`, not a product: padding's label may be outside the task, and its loss infinite.
        loss = jnp.sum(jnp.where(batch.mask, losses, 0)) / jnp.sum(batch.mask)
        if penalty is None:
            return loss, None
        extra = penalty(memory, params, Forward(pixels, features, batch.mask, objective))
        return loss + extra, extra

    @jax.jit(donate_argnums=0)
    def train_step(
        state: TrainState, batch: Batch[jax.Array], objective: Objective, memory: Memory = ()
    ) -> tuple[TrainState, Metrics[jax.Array]]:
        key = jax.random.fold_in(objective.key, state.step)
        views = preprocessing.draw(key, batch.box, config.crop_scale)  # for all parts together

        def gradient(batch: Batch[jax.Array], views: Views) -> tuple[tuple[jax.Array, Any], Params]:
            pixels = preprocessing.show(batch.image, views)
            return jax.value_and_grad(loss_fn, has_aux=True)(
                state.params, pixels, batch, objective, memory
            )

        (loss, extra), gradients = mean_over_parts(gradient, config.accumulate, batch, views)
        gradients = unfrozen(gradients, trainable)
        updates, moments = optimizer.update(gradients, state.moments, state.params)
        rate = warmup_cosine(state.step, config.learning_rate, objective.warmup, objective.steps)
        # Updates include weight decay, which must not affect frozen entries either.
        updates = unfrozen(updates, trainable)
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
        norm = optax.tree.norm
        metrics = Metrics(
            loss=loss,
            gradient_norm=norm(gradients),
            learning_rate=rate,
            parameter_norm=norm(params),
            update_norm=rate * norm(updates),
            penalty=extra,
        )
        return layout.constrain(TrainState(params, moments, state.step + 1)), metrics

    return Trainer(init, train_step, layout.batch)


def own_classes(objective: Objective, batch: Batch[jax.Array]) -> jax.Array:
    """bool (b, k): the classes that each sample's loss ranges over; for padding, the task's."""
    own = objective.heads == objective.heads[batch.label][:, None]
    # Padding's label may be in another head: without classes, its loss would make gradients NaN.
    return objective.classes & (own | ~batch.mask[:, None])


def cross_entropy(
    logits: jax.Array, labels: jax.Array, classes: jax.Array, smoothing: float = 0.0
) -> jax.Array:
    """-sum_k q_k log softmax(logits over `classes`)_k, q smoothed over those classes.

    Args:
      logits: float (b, k).
      labels: int (b,), each one of `classes`.
      classes: bool (k,) or (b, k); one head serves every task, with others' classes masked out.
      smoothing: share of q that is spread evenly, in [0, 1).

    Returns:
      float (b,).
    """
    log_p = jax.nn.log_softmax(jnp.where(classes, logits, -jnp.inf))
    hit = jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
    spread = jnp.sum(jnp.where(classes, log_p, 0), axis=1) / jnp.sum(classes, axis=-1)
    return -(1 - smoothing) * hit - smoothing * spread
