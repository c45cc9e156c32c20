"""Leaf names as seeds for random draws, including those of several stacked leaves."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.packages.lazy_jax import jax, jnp


class LeafNames:
    """The names of n leaves of one shape, stacked under this dict key.

    `mapped` lifts a rule's functions to the stack; each leaf keeps the random key it has alone.
    """

    def __init__(self, names: Sequence[str]):
        self._names = tuple(names)
        self._which: jax.Array | None = None

    def mapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function mapped over an extra leading axis of n in every array of its trees.

        Mapped one operation at a time, without `jit`, which would round in different places.
        """

        def one(which: jax.Array, *trees: Any) -> Any:
            self._which = which
            return function(*trees)

        every = jnp.arange(len(self._names))
        return lambda *trees: jax.vmap(one)(every, *trees)

    def words(self, seed: int) -> jax.Array:
        """`seed_words` of the leaf being mapped."""
        table = np.stack([seed_words(seed, name) for name in self._names])
        return jnp.asarray(table)[self._which]


def checked_seed(seed: Any) -> int:
    """A random seed: any integer, of any size; all of its digits count.

    Raises:
      UserError: it is not an integer.
    """
    try:
        return operator.index(seed)
    except TypeError:
        raise UserError(f"seed is {seed!r}: give an integer, such as 0") from None


def seed_words(seed: int, name: str) -> np.ndarray:
    """The seed of one leaf's draws: uint32 (2,)."""
    digest = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    return np.frombuffer(digest, "<u4").astype(np.uint32)
