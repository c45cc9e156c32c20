"""Images on which a run evaluates models, in batches that stay in memory where they are small."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from magmax_jax.config import ExperimentConfig
from magmax_jax.data import Batch, Preprocessing, Source, eval_batches, num_batches
from magmax_jax.data.pipeline.memory_cache import CACHED_BYTES
from magmax_jax.evaluation.evaluator import Counts, Evaluate, make_evaluate
from magmax_jax.inputs.host_resize import untouched
from magmax_jax.runs.progress import Progress
from magmax_jax.scenarios import Scenario, validating
from magmax_jax.sharding import Layout
from magmax_jax.training import Params


class EvaluationSet(NamedTuple):
    """Images on which models are evaluated.

    Attributes:
      scenario: whose test images they are.
      evaluate: counts what models make of them.
      batches: every image once.
      num_batches: how many there are.
    """

    scenario: Scenario
    evaluate: Evaluate
    batches: Iterable[Batch[np.ndarray]]
    num_batches: int

    def counts_of(
        self,
        models: Sequence[Params],
        progress: Progress,
        shown: str,
        watched: Callable[[Iterable], Iterable] = iter,
    ) -> list[Counts[np.ndarray]]:
        """What each model makes of the images, which are read once for all.

        Args:
          watched: what the batches go through, such as `recorder.until`.
        """
        batches = progress.evaluating(shown, self.batches, self.num_batches)
        return self.evaluate(models, watched(batches))


def eval_batch_size(config: ExperimentConfig, scenario: Scenario, layout: Layout) -> int:
    """That of the configuration, or what holds the largest set of images of the run.

    All its sets have one, so that it compiles once. A multiple of 8 suits accelerators, and keeps
    compiled programs in the cache for sets of nearly the same size.
    """
    largest = max(1, scenario.num_test, validating(scenario).num_test)
    step = math.lcm(8, layout.mesh.size)  # each device has as many rows
    return min(config.eval_batch_size, math.ceil(largest / step) * step)


def evaluation_set(
    config: ExperimentConfig,
    scenario: Scenario,
    batch_size: int,
    tower: nnx.GraphDef,
    preprocessing: Preprocessing,
    head: jax.Array,
    layout: Layout,
) -> EvaluationSet:
    evaluate = make_evaluate(tower, preprocessing, head, scenario, layout)
    images = np.flatnonzero(scenario.task_of >= 0)
    batches = batches_of(config, scenario.test, images, batch_size, preprocessing, layout)
    return EvaluationSet(scenario, evaluate, batches, num_batches(scenario.num_test, batch_size))


def batches_of(
    config: ExperimentConfig,
    source: Source,
    indices: np.ndarray,
    batch_size: int,
    preprocessing: Preprocessing,
    layout: Layout,
) -> Iterable[Batch[np.ndarray]]:
    """Of the images at `indices`, as evaluation shows them.

    In memory between evaluations when they are small, as the batches that they are shown in: each
    image once, whether it was fitted or not.
    """
    size = preprocessing.size
    batches = eval_batches(
        source,
        indices,
        batch_size,
        size,
        config.train.workers,
        layout.rows(batch_size),
        geometry=preprocessing.geometry,
    )
    shape = source.image_shape
    height, width = shape if untouched(shape, size) else (size, size)
    small = 3 * height * width * len(indices) <= CACHED_BYTES
    there = isinstance(source.images, np.ndarray)  # is in memory already
    return list(batches) if small and not there else batches
