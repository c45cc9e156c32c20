"""Our evaluation as a contender: the library's pass over test images, with every accuracy."""

import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import peak_bytes
from benchmarks.serving import Facts, Prepared
from benchmarks.workloads import scenario
from magmax_jax.data import Preprocessing, eval_batches
from magmax_jax.evaluation.evaluator import make_evaluate
from magmax_jax.models import CLIP


def prepare(settings: Facts) -> Prepared:
    """Compiles everything on the first batch.

    Args:
      settings: those of `benchmarks.evaluate.work`, and `at_once`, the models per pass.
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
    batches_of = partial(eval_batches, tested.test, batch_size=settings["batch_size"], size=size)
    batches = batches_of(np.arange(len(tested.test)))
    shrunk = jax.jit(lambda theta, scale: jax.tree.map(lambda leaf: scale * leaf, theta))
    right: list[dict[str, list[int]]] = []

    def call() -> None:
        right.clear()
        scales, at_once = settings["scales"], settings["at_once"]
        for start in range(0, len(scales), at_once):
            models = [shrunk(theta, scale) for scale in scales[start : start + at_once]]
            for counts in evaluate(models, batches):
                by_task = {"agnostic": counts.agnostic, "aware": counts.aware}
                right.append({of: n.sum(axis=(1, 2)).tolist() for of, n in by_task.items()})

    start = time.perf_counter()
    evaluate([shrunk(theta, 1.0)], batches_of(np.arange(1)))
    facts = {"device": jax.devices()[0].device_kind, "first": time.perf_counter() - start}
    return Prepared(facts, call, lambda: {"memory": peak_bytes(), "right": right})
