"""Leaves' names as seeds of random draws, also those of several leaves that are stacked."""

import hashlib
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.errors import UserError


class LeafNames:
    """The names of n leaves of one shape that are stacked under this key of a dict.

    `mapped` makes a rule's functions those of all of them: each leaf has the key that it has alone.
    """

    def __init__(self, names: Sequence[str]):
        self._names = tuple(names)
        self._which: jax.Array | None = None

    def mapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function of trees whose arrays have an axis of n more in front, mapped over it.

        It is mapped operation by operation, without `jit`, which would round in other places.
        """

        def one(which: jax.Array, *trees: Any) -> Any:
            self._which = which
            return function(*trees)

        every = jnp.arange(len(self._names))
        return lambda *trees: jax.vmap(one)(every, *trees)

    def words(self, seed: int) -> jax.Array:
        """`seed_words` of the leaf that is being mapped."""
        table = np.stack([seed_words(seed, name) for name in self._names])
        return jnp.asarray(table)[self._which]


def checked_seed(seed: Any) -> int:
    """A seed of draws, any integer: all of its digits count, whatever their number.

    Raises:
      UserError: it is none.
    """
    try:
        return operator.index(seed)
    except TypeError:
        raise UserError(f"seed is {seed!r}: give an integer, such as 0") from None


def seed_words(seed: int, name: str) -> np.ndarray:
    """What seeds the draws of one leaf: uint32 (2,)."""
    digest = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    return np.frombuffer(digest, "<u4").astype(np.uint32)
