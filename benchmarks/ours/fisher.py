"""Ours, as a contender: EWC's Fisher of one batch on the device, and a training step."""

import sys

from benchmarks.serving import Facts, Prepared


def prepare(settings: Facts) -> Prepared:
    """A call is one pass over the batch.

    Args:
      settings: `size`, `batch_size`, `dtype`; `kind` of the Fisher, None for a training step; and
        `checkout`, from which our package is imported.
    """
    sys.path.insert(0, settings["checkout"])
    import jax

    from benchmarks.ours import training as steps
    from benchmarks.workloads import SIZES, abstract_tower, training
    from magmax_jax.data import Preprocessing
    from magmax_jax.training.regularizers import diagonal_fisher

    if settings["kind"] is None:
        return steps.prepare(settings | {"steps": 1})
    jax.config.update("jax_enable_compilation_cache", False)
    model, dtype = SIZES[settings["size"]], settings["dtype"]
    _, theta, batch, goal = training(model, settings["batch_size"], dtype)
    preprocessing = Preprocessing(model.vision.image_size)
    estimate = diagonal_fisher(abstract_tower(model, dtype)[0], preprocessing, settings["kind"])
    return Prepared({}, lambda: jax.block_until_ready(estimate(theta, [batch], goal)) and None)
