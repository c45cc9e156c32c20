"""One pass over the test set, with all accuracies computed from the same logits.

Devices only predict; counting is left to the host. Memory thus grows with the images, and not with
the classes squared.

Letters in shapes: b batch, k classes, t tasks.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from magmax_jax.data import Batch, Preprocessing
from magmax_jax.evaluation.counts import Counts, Predicted
from magmax_jax.models import image_features
from magmax_jax.scenarios import Scenario
from magmax_jax.sharding import Layout, one_device

AHEAD = 2
"""Batches that are read and preprocessed while another one passes through the models."""


Predict = Callable[[Sequence[nnx.State], Iterable[Batch[np.ndarray]]], Iterator[list[np.ndarray]]]
"""(models, batches) -> for every batch, each model's `Predicted` as rows of one int32 (4, b)."""
Evaluate = Callable[[Sequence[nnx.State], Iterable[Batch[np.ndarray]]], list[Counts]]
"""(models, batches) -> the Counts of each model."""


def encode(
    tower: nnx.GraphDef, preprocessing: Preprocessing, params: nnx.State, batch: Batch[jax.Array]
) -> jax.Array:
    """Image features of a batch, preprocessed for evaluation: float32 (b, p), of unit length."""
    return image_features(tower, params, preprocessing.evaluate(batch.image, batch.box))


def make_evaluate(
    tower: nnx.GraphDef,
    preprocessing: Preprocessing,
    head: jax.Array,
    scenario: Scenario,
    layout: Layout | None = None,
) -> Evaluate:
    """A function (models, batches) -> list[Counts], which compiles once for all models of a run.

    Images are read and preprocessed once for all given models, which then process a batch in turn:
    apart from their parameters, they take the memory of one.

    Args:
      tower: the image tower without its parameters.
      preprocessing: from uint8 images to the tower's pixels, on the device.
      head: float32 (p, k), over every class of the scenario.
      scenario: which task each test image and each class belongs to, and which domain.
      layout: where parameters and batches are placed; one device by default.
    """
    predict = make_predict(tower, preprocessing, head, scenario, layout)

    def evaluate(models: Sequence[nnx.State], batches: Iterable[Batch[np.ndarray]]) -> list[Counts]:
        found = [[np.zeros((4, 0), np.int32)] for _ in models]
        for predicted in predict(models, batches):
            for parts, part in zip(found, predicted, strict=True):
                parts.append(part)
        return [Counts.of(Predicted(*np.concatenate(p, axis=1)), scenario) for p in found]

    return evaluate


def make_predict(
    tower: nnx.GraphDef,
    preprocessing: Preprocessing,
    head: jax.Array,
    scenario: Scenario,
    layout: Layout | None = None,
) -> Predict:
    """The part of `make_evaluate` that runs on the devices, with the same arguments."""
    layout = layout or one_device()
    facts = layout.replicate((head, scenario.task_of, scenario.class_masks))  # masks: bool (t, k)

    preprocess = jax.jit(preprocessing.evaluate)

    @jax.jit
    def eval_step(
        params: nnx.State,
        pixels: jax.Array,
        batch: Batch[jax.Array],
        facts: tuple[jax.Array, jax.Array, jax.Array],
    ) -> jax.Array:
        head, task_of, class_masks = facts
        logits = image_features(tower, params, pixels) @ head  # (b, k)
        own = jnp.where(class_masks[task_of[batch.index]], logits, -jnp.inf)
        predicted = Predicted(
            index=jnp.where(batch.mask, batch.index, -1),
            prediction=jnp.argmax(logits, axis=1),
            agnostic=_rank(logits, batch.label),
            aware=_rank(own, batch.label),
        )
        return layout.constrain_whole(jnp.stack(predicted))  # one array is one transfer

    def predict(
        models: Sequence[nnx.State], batches: Iterable[Batch[np.ndarray]]
    ) -> Iterator[list[np.ndarray]]:
        # A merged model may be sharded differently, which would trigger a recompile.
        models = [layout.params(params) for params in models]
        ahead: deque[list[jax.Array]] = deque()
        for batch in map(layout.batch, batches):
            pixels = preprocess(batch.image, batch.box)
            ahead.append([eval_step(params, pixels, batch, facts) for params in models])
            if len(ahead) > AHEAD:  # limit the number of batches in flight
                yield jax.device_get(ahead.popleft())
        yield from map(jax.device_get, ahead)

    return predict


def _rank(logits: jax.Array, label: jax.Array) -> jax.Array:
    """int32 (b,): number of classes ranked before the label; ties in class order, as in argmax.

    A label whose logit is NaN ranks after any number of classes.
    """
    mine = jnp.take_along_axis(logits, label[:, None], axis=1)
    later = jnp.arange(logits.shape[1]) >= label[:, None]
    behind = (logits < mine) | ((logits == mine) & later)
    return jnp.where(jnp.isnan(mine[:, 0]), jnp.iinfo(jnp.int32).max, jnp.sum(~behind, axis=1))
