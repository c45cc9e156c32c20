"""Many models evaluated on the same images, in as few passes over these as memory allows."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import jax
import numpy as np

from magmax_jax.evaluation.evaluator import Counts
from magmax_jax.merging.task_vectors import PyTree, tree_bytes
from magmax_jax.runs.evaluation_set import EvaluationSet
from magmax_jax.runs.progress import Progress
from magmax_jax.sharding import Layout
from magmax_jax.training import Params

HELD_BYTES = 2 * 2**30
"""Memory for models evaluated together where a device does not say how much it has, or has less
than 8 GiB."""
SHARE = 4
"""The part of a device's memory for them is one in so many: the run's state lies there, too."""


def models_held(params: PyTree, layout: Layout) -> int:
    """How many models of this one's size are in memory together: one at least; the same number in
    all processes, each of which must call this."""
    stats = layout.mesh.local_devices[0].memory_stats() or {}  # a CPU has none
    held = max(HELD_BYTES, stats.get("bytes_limit", 0) // SHARE)
    return layout.smallest(max(held // tree_bytes(params), 1))


def count_all(
    models: Mapping[str, Callable[[], Params]],
    images: EvaluationSet,
    at_once: int,
    progress: Progress,
    watched: Callable[[Iterable], Iterable] = iter,
) -> Iterator[Counts[np.ndarray]]:
    """What each model makes of the images: one pass over them for every `at_once` models.

    Models are made when it is their turn. Where memory does not suffice, `at_once` is halved. The
    counts of a group are yielded before the next one begins.

    Args:
      models: by the name under which they are shown.
      watched: what batches go through in every pass, such as `recorder.until`.
    """
    left = list(models)
    while left:
        some = left[:at_once]
        shown = some[0] if len(some) == 1 else f"{some[0]} and {len(some) - 1} more"
        try:
            counts = images.counts_of([models[name]() for name in some], progress, shown, watched)
        except jax.errors.JaxRuntimeError as error:
            if len(some) == 1 or "RESOURCE_EXHAUSTED" not in str(error):
                raise
            at_once = -(-len(some) // 2)
            progress.say(f"out of memory, continuing with {at_once} models at once")
            continue
        yield from counts
        left = left[len(some) :]
