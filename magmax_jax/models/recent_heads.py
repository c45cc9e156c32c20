"""Caches the latest heads, so that classifying images one at a time is fast."""

import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from magmax_jax.errors import UserError
from magmax_jax.models.base import Model
from magmax_jax.models.zero_shot import alike, prompts, zero_shot_head

KEPT = 8


class _Made(NamedTuple):
    key: Any
    weights: list[weakref.ref]
    head: jax.Array


_recent: deque[_Made] = deque(maxlen=KEPT)


def recent_head(model: Model, class_names: Sequence[str], templates: Sequence[str]) -> jax.Array:
    """`zero_shot_head`, recomputed only if texts, tokenizer or the text tower's weights changed.

    JAX arrays are immutable, so identical arrays are identical weights. They are referenced weakly,
    so no model is kept in memory. Heads of other, mutable arrays are not cached.

    Raises:
      UserError: as `zero_shot_head` does; or classes have the same prompts, token by token.
    """
    ids = model.tokenize(prompts(class_names, templates))
    tower, params = model.text_tower()
    weights = jax.tree.leaves((params, model.logit_scale.get_value()))
    key = tower, len(class_names), ids.shape, ids.tobytes()
    for made in tuple(_recent):
        if made.key == key and all(
            then() is now for then, now in zip(made.weights, weights, strict=True)
        ):
            return made.head
    if same := alike(model, class_names, templates):
        listed = " and ".join(repr(class_names[i]) for i in same[0])
        raise UserError(
            f"{listed} have the same prompts: give class names that the model can distinguish"
        )
    head = zero_shot_head(model, class_names, templates)
    if all(isinstance(array, jax.Array) for array in weights):
        _recent.append(_Made(key, [weakref.ref(array) for array in weights], head))
    return head
