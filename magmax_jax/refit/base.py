"""What a refit is: four pure functions, and a state whose size does not grow with the tasks.

Letters in shapes: b batch, d width of the features, p width of the space that images and texts
share, k classes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

State = Any


class Features(NamedTuple):
    """One batch of a task's training images, as what enters the last map of two models.

    Attributes:
      before: float32 (b, d), of the merged model that was deployed before the task; of `after`'s
        model where there was none.
      after: float32 (b, d), of the merged model that is deployed after it.
      label: int32 (b,), below k.
      mask: bool (b,), False for padding, which must not count.
    """

    before: jax.Array
    after: jax.Array
    label: jax.Array
    mask: jax.Array


class Refit(NamedTuple):
    """How the last map of a merged model is fitted.

    The model's logits are `normalise((f + shift) @ kernel) @ head` of the features f (d,), so that
    it stays a model of its family whatever is fitted.

    Attributes:
      init: (d, k) -> the state before any task, a pytree of float32 arrays.
      observe: (state, Features) -> state; once for each batch of a task's images. It is jitted, and
        the batch may be spread over devices.
      learn: state -> state; once after the task's last batch, on the host. What `observe` summed up
        goes into what is known of all tasks.
      fit: (state, head (p, k)) -> float32 kernel (d, p) and shift (d,); on the host.
    """

    init: Callable[[int, int], State]
    observe: Callable[[State, Features], State]
    learn: Callable[[State], State]
    fit: Callable[[State, np.ndarray], tuple[np.ndarray, np.ndarray]]
