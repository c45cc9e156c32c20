"""Evaluates many models on the same images, in as few passes as memory allows."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import jax

from magmax_jax.evaluation.counts import Counts
from magmax_jax.merging.task_vectors import PyTree, tree_bytes
from magmax_jax.runs.evaluation_set import EvaluationSet
from magmax_jax.runs.progress import Progress
from magmax_jax.sharding import Layout
from magmax_jax.training import Params

HELD_BYTES = 2 * 2**30
"""Memory for models evaluated together if a device does not report its memory or has less than
8 GiB."""
SHARE = 4
"""They may use one part in this many of a device's memory, which also holds the run's state."""


def models_held(params: PyTree, layout: Layout) -> int:
    """Number of models of this size to hold in memory together, at least one; the same in all
    processes, which must all call this."""
    stats = layout.mesh.local_devices[0].memory_stats() or {}  # CPUs have none
    held = max(HELD_BYTES, stats.get("bytes_limit", 0) // SHARE)
    return layout.smallest(max(held // tree_bytes(params), 1))


def count_all(
    models: Mapping[str, Callable[[], Params]],
    images: EvaluationSet,
    at_once: int,
    progress: Progress,
    watched: Callable[[Iterable], Iterable] = iter,
) -> Iterator[Counts]:
    """The counts of each model on the images, with one pass for every `at_once` models.

    Models are built lazily. On running out of memory, `at_once` is halved. The counts of a group
    are yielded before the next one begins.

    Args:
      models: by display name.
      watched: wraps the batches of every pass, e.g. `recorder.until`.
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
