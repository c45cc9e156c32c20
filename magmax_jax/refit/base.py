"""The interface of a refit: four pure functions, and a state that does not grow with the tasks.

Letters in shapes: b batch, d width of the features, p width of the space that images and texts
share, k classes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

State = Any


class Features(NamedTuple):
    """One batch of a task's training images, as inputs to the last map of two models.

    Attributes:
      before: float32 (b, d), from the merged model deployed before the task; if there was none,
        from `after`'s model.
      after: float32 (b, d), from the merged model deployed after it.
      label: int32 (b,), below k.
      mask: bool (b,), False for padding, which must not count.
    """

    before: jax.Array
    after: jax.Array
    label: jax.Array
    mask: jax.Array


class Refit(NamedTuple):
    """How the last map of a merged model is fitted.

    The model's logits are `normalise((f + shift) @ kernel) @ head` for features f (d,), so any fit
    yields a model of the same family.

    Attributes:
      init: (d, k) -> the state before any task, a pytree of float32 arrays.
      observe: (state, Features) -> state; once for each batch of a task's images. It is jitted, and
        the batch may be sharded over devices.
      learn: state -> state; once after the task's last batch, on the host. Folds the sums from
        `observe` into the statistics of all tasks.
      fit: (state, head (p, k)) -> float32 kernel (d, p) and shift (d,); on the host.
    """

    init: Callable[[int, int], State]
    observe: Callable[[State, Features], State]
    learn: Callable[[State], State]
    fit: Callable[[State, np.ndarray], tuple[np.ndarray, np.ndarray]]
