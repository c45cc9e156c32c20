"""Ours, as a contender: the product's own training step on a batch that is on the device."""

import time
from collections.abc import Callable
from typing import Any

import jax

from benchmarks.device import peak_bytes
from benchmarks.shapes import SIZES
from benchmarks.turns import Facts, Prepared, serve
from benchmarks.workloads import training


def prepare(settings: Facts) -> Prepared:
    """A call is `steps` training steps, each on the result of the one before.

    Args:
      settings: `size`, `batch_size`, `dtype` and `steps`.

    Raises:
      MemoryError: the device has no room for it; so does the call.
    """
    jax.config.update("jax_enable_compilation_cache", False)  # compilation is told, not remembered
    b, steps = settings["batch_size"], settings["steps"]

    def fitting(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                raise MemoryError(f"out of memory at a batch of {b}") from None
            raise

    def begin():
        trainer, theta, batch, objective = training(
            SIZES[settings["size"]].model, b, settings["dtype"]
        )
        return trainer, jax.block_until_ready((trainer.init(theta), batch, objective))

    trainer, (state, batch, objective) = fitting(begin)
    start = time.perf_counter()
    compiled = fitting(trainer.step.lower(state, batch, objective, ()).compile)
    compiling, loss = time.perf_counter() - start, None

    def step(times: int) -> None:
        nonlocal state, loss
        for _ in range(times):
            state, metrics = compiled(state, batch, objective, ())
        loss = jax.block_until_ready((state, metrics))[1].loss

    def last() -> Facts:
        return {"loss": float(loss), "memory": peak_bytes()}

    facts = {"compile": compiling, "steps": steps, "device": jax.devices()[0].device_kind}
    return Prepared(facts, lambda: fitting(lambda: step(steps)), last)


if __name__ == "__main__":
    serve(prepare)
