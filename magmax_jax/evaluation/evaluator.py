"""One pass over the test set, with all accuracies computed from the same logits.

Letters in shapes: b batch, k classes, t tasks, n domains.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from magmax_jax.data import Batch, Preprocessing
from magmax_jax.models import image_features
from magmax_jax.scenarios import Scenario
from magmax_jax.sharding import Layout, one_device

AHEAD = 2
"""Batches that are read and preprocessed while another one passes through the models."""


Array = TypeVar("Array")


class Counts(NamedTuple, Generic[Array]):
    """Exact counts of samples, int32, on the devices or the host, without padding.

    All but `confusion` are (t, 1 + n, k): by task, by domain (first none, then n), by class; counts
    of any group are marginals of them.

    Attributes:
      agnostic: correct when the argmax ranges over every class of the scenario.
      aware: correct when it ranges over the classes of the sample's task.
      agnostic_top5, aware_top5: the label is among the five most likely of these classes.
      total: samples.
      confusion: (k, k), label by prediction among all classes.
    """

    agnostic: Array
    aware: Array
    agnostic_top5: Array
    aware_top5: Array
    total: Array
    confusion: Array

    @classmethod
    def zeros(cls, scenario: Scenario) -> "Counts[np.ndarray]":
        k = scenario.num_classes
        shape = len(scenario.tasks), 1 + len(scenario.domain_names), k
        groups = {name: np.zeros(shape, np.int32) for name in cls._fields[:-1]}
        return Counts(**groups, confusion=np.zeros((k, k), np.int32))


Evaluate = Callable[[Sequence[nnx.State], Iterable[Batch[np.ndarray]]], list[Counts[np.ndarray]]]
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
    layout = layout or one_device()
    place_of = np.stack([scenario.task_of, 1 + scenario.domain_of])  # (2, images)
    facts = layout.replicate((head, place_of, scenario.class_masks))  # masks: bool (t, k)

    preprocess = jax.jit(preprocessing.evaluate)

    @partial(jax.jit, donate_argnums=1)
    def eval_step(
        params: nnx.State,
        counts: Counts[jax.Array],
        pixels: jax.Array,
        batch: Batch[jax.Array],
        facts: tuple[jax.Array, jax.Array, jax.Array],
    ) -> tuple[Counts[jax.Array], jax.Array]:
        head, place_of, class_masks = facts
        logits = image_features(tower, params, pixels) @ head  # (b, k)
        task, domain = place_of[:, batch.index]
        own = jnp.where(class_masks[task], logits, -jnp.inf)
        agnostic, aware = _rank(logits, batch.label), _rank(own, batch.label)

        def add(count: jax.Array, hit: jax.Array) -> jax.Array:
            return count.at[task, domain, batch.label].add(hit & batch.mask)

        counted = Counts(
            agnostic=add(counts.agnostic, agnostic < 1),
            aware=add(counts.aware, aware < 1),
            agnostic_top5=add(counts.agnostic_top5, agnostic < 5),
            aware_top5=add(counts.aware_top5, aware < 5),
            total=add(counts.total, batch.mask),
            confusion=counts.confusion.at[batch.label, jnp.argmax(logits, axis=1)].add(batch.mask),
        )
        return layout.constrain_whole((counted, jnp.sum(batch.mask)))

    def evaluate(
        models: Sequence[nnx.State], batches: Iterable[Batch[np.ndarray]]
    ) -> list[Counts[np.ndarray]]:
        # A merged model may be sharded differently, which would trigger a recompile.
        models = [layout.params(params) for params in models]
        counts = [layout.replicate(Counts.zeros(scenario)) for _ in models]
        done: deque[jax.Array] = deque()
        for batch in map(layout.batch, batches):
            pixels = preprocess(batch.image, batch.box)
            for i, params in enumerate(models):
                counts[i], samples = eval_step(params, counts[i], pixels, batch, facts)
            done.append(samples)
            if len(done) > AHEAD:  # limit the number of batches in flight
                done.popleft().block_until_ready()
        return jax.device_get(counts)

    return evaluate


def _rank(logits: jax.Array, label: jax.Array) -> jax.Array:
    """int32 (b,): number of classes ranked before the label; ties in class order, as in argmax.

    A label whose logit is NaN ranks after any number of classes.
    """
    mine = jnp.take_along_axis(logits, label[:, None], axis=1)
    later = jnp.arange(logits.shape[1]) >= label[:, None]
    behind = (logits < mine) | ((logits == mine) & later)
    return jnp.where(jnp.isnan(mine[:, 0]), jnp.iinfo(jnp.int32).max, jnp.sum(~behind, axis=1))
