"""Fine-tuning on one task: the loop around the compiled step."""

import math
from collections import deque
from collections.abc import Callable, Iterable

import jax
import numpy as np

from magmax_jax.data import Batch
from magmax_jax.errors import DivergedError
from magmax_jax.training.step import Memory, Metrics, Objective, Params, Trainer, TrainState

LAG = 2
"""Losses are read this many steps late: by then they are on the host, so no device waits."""


def fine_tune(
    trainer: Trainer,
    start: Params,
    objective: Objective,
    batches: Iterable[Batch[np.ndarray]],
    on_step: Callable[[int, Metrics[float]], None] = lambda step, metrics: None,
    memory: Memory = (),
    resumed: tuple[int, TrainState] | None = None,
    due: Callable[[int], bool] = lambda done: False,
    save: Callable[[int, TrainState], None] = lambda done, state: None,
    on_end: Callable[[TrainState], None] = lambda state: None,
) -> Params:
    """theta_t from `start`: theta_(t-1) for sequential, theta_0 for independent fine-tuning, or a
    merge of the previous tasks.

    Args:
      trainer: from `make_trainer`.
      start: not modified; ignored with `resumed`.
      objective: the task's head, classes, schedule and key.
      batches: every batch of every epoch, all of one shape; with `resumed`, the remaining ones.
      on_step: called with each step (from 0) and its metrics as floats, in order, `LAG` steps late;
        also for a step whose loss is not finite.
      memory: of the regularizer whose penalty the trainer adds; not modified.
      resumed: number of steps done and the state then, as passed to `save` or from `trainer.init`;
        its buffers are donated.
      due: called after each step with the number of steps done; returns whether to save.
      save: called if so, once all those steps are known to be finite. It must copy what it keeps.
      on_end: called with the last state; it may donate the moments, which are not read again.

    Raises:
      DivergedError: a loss or a gradient is not finite.
    """
    first, state = resumed or (0, trainer.init(start))
    pending: deque[tuple[int, Metrics[jax.Array]]] = deque()

    def settle(left: int) -> None:
        while len(pending) > left:
            step, measured = pending.popleft()
            metrics: Metrics[float] = jax.tree.map(float, jax.device_get(measured))
            on_step(step, metrics)  # also for the step that diverged, so that it is recorded
            shown = (("loss", metrics.loss), ("gradient's norm", metrics.gradient_norm))
            for name, value in shown:
                if not math.isfinite(value):
                    raise DivergedError(
                        f"the {name} is {value} at step {step}: a lower learning rate or a longer "
                        "warm-up usually helps"
                    )

    for step, batch in enumerate(batches, start=first):
        state, metrics = trainer.step(state, trainer.place(batch), objective, memory)
        jax.tree.map(lambda value: value.copy_to_host_async(), metrics)
        pending.append((step, metrics))
        settle(LAG)
        if due(step + 1):
            settle(0)
            save(step + 1, state)
    settle(0)
    on_end(state)
    return state.params
