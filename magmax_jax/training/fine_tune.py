"""Fine-tuning on one task: the loop around the compiled step."""

import math
from collections import deque
from collections.abc import Callable, Iterable

import jax

from magmax_jax.data import Batch
from magmax_jax.errors import DivergedError
from magmax_jax.training.step import Metrics, Objective, Params, Trainer

LAG = 2
"""Losses are read this many steps late: by then they are on the host, and no device waits."""


def fine_tune(
    trainer: Trainer,
    start: Params,
    objective: Objective,
    batches: Iterable[Batch],
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> Params:
    """theta_t from `start`: theta_(t-1) for sequential, theta_0 for independent fine-tuning.

    Args:
      trainer: from `make_trainer`.
      start: left as it is.
      objective: the task's head, classes, schedule and key.
      batches: every batch of every epoch, all of one shape.
      on_step: called with each step (from 0) and its loss, in order, `LAG` steps late.

    Raises:
      DivergedError: a loss or a gradient is not finite.
    """
    state = trainer.init(start)
    pending: deque[tuple[int, Metrics]] = deque()

    def settle(left: int) -> None:
        while len(pending) > left:
            step, metrics = pending.popleft()
            metrics = jax.device_get(metrics)
            for name, value in zip(("loss", "gradient's norm"), metrics, strict=True):
                if not math.isfinite(value):
                    raise DivergedError(
                        f"the {name} is {value} at step {step}: a lower learning rate or a longer "
                        "warm-up usually helps"
                    )
            on_step(step, float(metrics.loss))

    for step, batch in enumerate(batches):
        state, metrics = trainer.step(state, trainer.place(batch), objective)
        for value in metrics:
            value.copy_to_host_async()
        pending.append((step, metrics))
        settle(LAG)
    settle(0)
    return state.params
