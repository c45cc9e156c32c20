"""Ours, as a contender: the library's own training step on a batch on the device."""

import time

import jax

from benchmarks.machine import peak_bytes
from benchmarks.serving import Facts, Prepared
from benchmarks.workloads import SIZES, training


def prepare(settings: Facts) -> Prepared:
    """A call is `steps` training steps, each starting from the previous result.

    Args:
      settings: `size`, `batch_size`, `dtype` and `steps`.
    """
    jax.config.update("jax_enable_compilation_cache", False)  # compilation is timed
    model, steps = SIZES[settings["size"]], settings["steps"]
    trainer, theta, *rest = training(model, settings["batch_size"], settings["dtype"])
    state = jax.block_until_ready(trainer.init(theta))
    del theta
    start = time.perf_counter()
    compiled = trainer.step.lower(state, *rest, ()).compile()
    compiling, loss = time.perf_counter() - start, None

    def step() -> None:
        nonlocal state, loss
        for _ in range(steps):
            state, metrics = compiled(state, *rest, ())
        loss = jax.block_until_ready((state, metrics))[1].loss

    def last() -> Facts:
        return {"loss": float(loss), "memory": peak_bytes()}

    facts = {"compile": compiling, "device": jax.devices()[0].device_kind}
    return Prepared(facts, step, last, units=steps)
