"""One pass over the test set, every accuracy out of the same logits."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from magmax_jax.data import Batch, Preprocessing
from magmax_jax.models import normalise
from magmax_jax.results import Row
from magmax_jax.scenarios import Scenario
from magmax_jax.sharding import Layout, one_device


class Counts(NamedTuple):
    """Exact counts per task, int32 (t,) each; padding is in none of them.

    Attributes:
      agnostic: right when the argmax ranges over every class of the scenario.
      aware: right when it ranges over the classes of the sample's task.
      total: samples.
    """

    agnostic: jax.Array
    aware: jax.Array
    total: jax.Array


def make_evaluate(
    tower: nnx.GraphDef,
    preprocessing: Preprocessing,
    head: jax.Array,
    scenario: Scenario,
    layout: Layout | None = None,
) -> Callable[[nnx.State, Iterable[Batch]], Counts]:
    """A function (params, batches) -> Counts, which compiles once for all models of a run.

    Args:
      tower: the image tower without its parameters.
      preprocessing: from uint8 images to the tower's pixels, on the device.
      head: float32 (p, k), over every class of the scenario.
      scenario: which task each test image and each class belongs to.
      layout: where parameters and batches lie; one device by default.
    """
    layout = layout or one_device()
    tasks = len(scenario.tasks)
    facts = head, scenario.task_of, scenario.class_masks  # masks: bool (t, k)
    head, task_of, class_masks = layout.replicate(facts)

    @jax.jit(donate_argnums=1)
    def eval_step(
        params: nnx.State, counts: Counts, batch: Batch, head, task_of, class_masks
    ) -> Counts:
        pixels = preprocessing.evaluate(batch.image, batch.box)
        logits = normalise(nnx.merge(tower, params)(pixels)) @ head  # (b, k)
        task = task_of[batch.index]
        own = jnp.where(class_masks[task], logits, -jnp.inf)

        def per_task(hit: jax.Array) -> jax.Array:
            return jnp.zeros(tasks, jnp.int32).at[task].add(hit & batch.mask)

        return layout.constrain(
            Counts(
                counts.agnostic + per_task(jnp.argmax(logits, axis=1) == batch.label),
                counts.aware + per_task(jnp.argmax(own, axis=1) == batch.label),
                counts.total + per_task(batch.mask),
            )
        )

    def evaluate(params: nnx.State, batches: Iterable[Batch]) -> Counts:
        params = layout.params(params)  # a merge's may lie otherwise, and would compile again
        counts = layout.replicate(Counts(*(np.zeros(tasks, np.int32) for _ in Counts._fields)))
        for batch in batches:
            batch = layout.batch(batch)
            counts = eval_step(params, counts, batch, head, task_of, class_masks)
        return jax.device_get(counts)

    return evaluate


def rows(
    counts: Counts, scenario: Scenario, after_task: int, model: str, scale: float | None
) -> Iterator[Row]:
    """The rows of one evaluation: both protocols, all samples and every task's."""
    for protocol in ("agnostic", "aware"):
        right = getattr(counts, protocol)
        groups = [("all", np.sum(right), np.sum(counts.total))]
        groups += zip((task.name for task in scenario.tasks), right, counts.total, strict=True)
        for group, hits, total in groups:
            accuracy = float(hits) / max(int(total), 1)
            yield Row(after_task, model, scale, protocol, group, accuracy, int(total))


def num_rows_of_one(scenario: Scenario) -> int:
    """How many rows one evaluation makes."""
    return 2 * (1 + len(scenario.tasks))


def num_rows(scenario: Scenario, models: int) -> int:
    """Rows of a whole run that evaluates the pretrained model, then `models` after every task."""
    return (1 + len(scenario.tasks) * models) * num_rows_of_one(scenario)
