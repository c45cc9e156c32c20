"""Loops over tasks whose programs do not grow with the number of tasks.

A compiler's time grows with the program: with the steps of 500 tasks one after another, it takes
far longer to compile than to run. So above `UNROLLED` tasks a program has a single step, in a loop
over one array that holds all of them. Sums are in the order of tasks either way; the two forms
differ only in rounding, where the compiler fuses products and sums differently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, TypeAlias

from magmax_jax.packages.lazy_jax import jax, jnp

UNROLLED = 32
"""Most tasks whose steps are compiled one by one, which is faster for a few."""

EachTask: TypeAlias = "Sequence[jax.Array] | jax.Array"
"""One array per task, or a single array with a leading axis of tasks; both have the same `len`."""


def together(arrays: Sequence[jax.Array]) -> EachTask:
    """The arrays as they are, or above `UNROLLED` in a new one: (t, *shape)."""
    return arrays if len(arrays) <= UNROLLED else jnp.stack(arrays)


def sum_over(function: Callable[..., Any], *values: EachTask) -> Any:
    """The sum over tasks of a function of each task's values, added in order.

    Args:
      function: takes one task's values, returns a pytree of arrays, none of them boolean.
      values: t each, t >= 1; the first decides whether this is a loop.
    """
    if not isinstance(values[0], jax.Array):
        found = [function(*one) for one in zip(*values, strict=True)]
        return jax.tree.map(lambda *each: sum(each), *found)
    return _looped(jnp.add, function, values)


def largest_over(function: Callable[..., jax.Array], *values: EachTask) -> jax.Array:
    """The largest magnitude of a function of each task's values, entry by entry."""
    if not isinstance(values[0], jax.Array):
        found = (jnp.abs(function(*one)) for one in zip(*values, strict=True))
        return reduce(jnp.maximum, found)
    return _looped(jnp.maximum, lambda *one: jnp.abs(function(*one)), values)


def each(function: Callable[..., Any], *values: EachTask) -> Any:
    """A function of each task's values, with a leading axis of tasks: arrays (t, ...)."""
    if not isinstance(values[0], jax.Array):
        found = [function(*one) for one in zip(*values, strict=True)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)
    return jax.lax.map(lambda one: function(*one), values)


def _looped(
    combine: Callable[..., jax.Array], function: Callable[..., Any], values: Sequence[EachTask]
) -> Any:
    def step(total: Any, one: tuple[Any, ...]) -> tuple[Any, None]:
        return jax.tree.map(combine, total, function(*one)), None

    shapes = jax.eval_shape(function, *(value[0] for value in values))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.scan(step, zeros, tuple(values))[0]
