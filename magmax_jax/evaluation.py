"""One pass over the test set, every accuracy out of the same logits."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from magmax_jax.data import Batch, Preprocessing
from magmax_jax.models import normalise
from magmax_jax.results import DOMAIN, Row
from magmax_jax.scenarios import Scenario
from magmax_jax.sharding import Layout, one_device


class Counts(NamedTuple):
    """Exact counts, int32 (t, 1 + n) each, of tasks and of no domain and n; padding is in none.

    Attributes:
      agnostic: right when the argmax ranges over every class of the scenario.
      aware: right when it ranges over the classes of the sample's task.
      total: samples.
    """

    agnostic: jax.Array
    aware: jax.Array
    total: jax.Array

    @classmethod
    def zeros(cls, scenario: Scenario) -> "Counts":
        shape = len(scenario.tasks), 1 + len(scenario.domain_names)
        return cls(*(np.zeros(shape, np.int32) for _ in cls._fields))


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
      scenario: which task each test image and each class belongs to, and which domain.
      layout: where parameters and batches lie; one device by default.
    """
    layout = layout or one_device()
    place_of = np.stack([scenario.task_of, 1 + scenario.domain_of])  # (2, images)
    facts = layout.replicate((head, place_of, scenario.class_masks))  # masks: bool (t, k)

    @jax.jit(donate_argnums=1)
    def eval_step(params: nnx.State, counts: Counts, batch: Batch, facts) -> Counts:
        head, place_of, class_masks = facts
        pixels = preprocessing.evaluate(batch.image, batch.box)
        logits = normalise(nnx.merge(tower, params)(pixels)) @ head  # (b, k)
        task, domain = place_of[:, batch.index]
        own = jnp.where(class_masks[task], logits, -jnp.inf)

        def add(count: jax.Array, hit: jax.Array) -> jax.Array:
            return count.at[task, domain].add(hit & batch.mask)

        return layout.constrain(
            Counts(
                add(counts.agnostic, jnp.argmax(logits, axis=1) == batch.label),
                add(counts.aware, jnp.argmax(own, axis=1) == batch.label),
                add(counts.total, batch.mask),
            )
        )

    def evaluate(params: nnx.State, batches: Iterable[Batch]) -> Counts:
        params = layout.params(params)  # a merge's may lie otherwise, and would compile again
        counts = layout.replicate(Counts.zeros(scenario))
        for batch in batches:
            counts = eval_step(params, counts, layout.batch(batch), facts)
        return jax.device_get(counts)

    return evaluate


def rows(
    counts: Counts, scenario: Scenario, after_task: int, model: str, scale: float | None
) -> Iterator[Row]:
    """The rows of one evaluation: both protocols; all samples, every task's and every domain's."""
    for protocol in ("agnostic", "aware"):
        right = _in_groups(getattr(counts, protocol))
        total = _in_groups(counts.total)
        for group, hits, samples in zip(groups(scenario), right, total, strict=True):
            accuracy = float(hits) / max(int(samples), 1)
            yield Row(after_task, model, scale, protocol, group, accuracy, int(samples))


def groups(scenario: Scenario) -> list[str]:
    """Of test images, in the order of their rows."""
    domains = [f"{DOMAIN}{name}" for name in scenario.domain_names]
    return ["all", *(task.name for task in scenario.tasks), *domains]


def _in_groups(counts: np.ndarray) -> np.ndarray:
    """Counts of tasks and domains (t, 1 + n) as those of `groups`."""
    return np.concatenate([[counts.sum()], counts.sum(axis=1), counts[:, 1:].sum(axis=0)])


def num_rows_of_one(scenario: Scenario) -> int:
    """How many rows one evaluation makes."""
    return 2 * len(groups(scenario))


def num_rows(scenario: Scenario, tasks: int, models: int) -> int:
    """Rows of a whole run: of the pretrained model, then of `models` after each of its tasks."""
    return (1 + tasks * models) * num_rows_of_one(scenario)
