"""Our evaluation as a contender: the product's pass over test images, every accuracy of it."""

import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.device import peak_bytes
from benchmarks.turns import Facts, Prepared, serve
from benchmarks.workloads import scenario
from magmax_jax.data import Preprocessing, eval_batches
from magmax_jax.evaluation.evaluator import Counts, make_evaluate
from magmax_jax.models import CLIP


def prepare(settings: Facts) -> Prepared:
    """Everything is compiled on the first batch.

    Args:
      settings: as `evaluation_work.Work` tells them, and `at_once`, models in one pass.
    """
    model = CLIP.from_pretrained(settings["model"])
    size = model.config.vision.image_size
    tower, theta = model.image_tower(settings["dtype"])
    del model
    images, labels, classes, head = (
        np.load(Path(settings["data"]) / f"{name}.npy")
        for name in ("images", "labels", "classes", "head")
    )
    tested = scenario(images, labels, classes)
    preprocessing = Preprocessing(size, tuple(settings["mean"]), tuple(settings["std"]))
    evaluate = make_evaluate(tower, preprocessing, jnp.asarray(head), tested)
    batches_of = partial(
        eval_batches, tested.test, batch_size=settings["batch_size"], size=size
    )  # the same as a run's
    batches = batches_of(np.arange(len(tested.test)))
    shrunk = jax.jit(lambda theta, scale: jax.tree.map(lambda leaf: scale * leaf, theta))
    found: list[Counts] = []

    def call() -> None:
        found.clear()
        scales, at_once = settings["scales"], settings["at_once"]
        for start in range(0, len(scales), at_once):
            models = [shrunk(theta, scale) for scale in scales[start : start + at_once]]
            found.extend(evaluate(models, batches))

    start = time.perf_counter()
    evaluate([shrunk(theta, 1.0)], batches_of(np.arange(1)))
    facts = {"device": jax.devices()[0].device_kind, "first": time.perf_counter() - start}
    return Prepared(
        facts, call, lambda: {"memory": peak_bytes(), "right": [_right(c) for c in found]}
    )


def _right(counts: Counts) -> dict[str, list[int]]:
    """By protocol, how many images of every task are recognised."""
    by_task = {"agnostic": counts.agnostic, "aware": counts.aware}
    return {name: count.sum(axis=(1, 2)).tolist() for name, count in by_task.items()}


if __name__ == "__main__":
    serve(prepare)
