"""Images on which a run evaluates models, in batches that are kept in memory if small."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from magmax_jax.config import ExperimentConfig
from magmax_jax.data import Batch, Preprocessing, Source, eval_batches, num_batches
from magmax_jax.data.pipeline.memory_cache import CACHED_BYTES
from magmax_jax.evaluation.counts import Counts
from magmax_jax.evaluation.evaluator import Evaluate, make_evaluate
from magmax_jax.inputs.host_resize import untouched
from magmax_jax.runs.progress import Progress
from magmax_jax.scenarios import Scenario, validating
from magmax_jax.sharding import Layout
from magmax_jax.training import Params


class EvaluationSet(NamedTuple):
    """Images on which models are evaluated.

    Attributes:
      scenario: the images are its test images.
      evaluate: counts the models' predictions.
      batches: every image once.
      num_batches: number of batches.
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
    ) -> list[Counts]:
        """The counts of each model on the images, which are read once for all models.

        Args:
          watched: wraps the batches, e.g. `recorder.until`.
        """
        batches = progress.evaluating(shown, self.batches, self.num_batches)
        return self.evaluate(models, watched(batches))


def eval_batch_size(config: ExperimentConfig, scenario: Scenario, layout: Layout) -> int:
    """The configuration's batch size, or less if the run's largest set of images fits in one batch.

    All sets of a run share it, so evaluation compiles once. A multiple of 8 suits accelerators and
    lets sets of nearly the same size share cached compiled programs.
    """
    largest = max(1, scenario.num_test, validating(scenario).num_test)
    step = math.lcm(8, layout.mesh.size)  # each device gets equally many rows
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
    """Batches of the images at `indices`, preprocessed for evaluation.

    Small sets stay in memory between evaluations as finished batches: each image is held once,
    whether it was fitted or not.
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
