"""Gradient accumulation: the gradient of a whole batch in the memory of a part."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from magmax_jax.data import Batch

PyTree = Any


def mean_over_parts(
    function: Callable[..., PyTree], parts: int, batch: Batch[jax.Array], *others: PyTree
) -> PyTree:
    """The value of `function` for a batch, computed from one part of it after another.

        f(batch) = sum_i n_i / n f(part_i),    where part i has n_i of the n samples

    which holds for every mean over samples, for its gradient, and for terms that are the same in
    all parts, such as a penalty on the parameters. Padding does not count as samples.

    Args:
      function: (batch, *others) -> pytree of floats.
      parts: divides b.
      batch: b rows, at least one of them a sample.
      others: pytrees of arrays (b, ...).
    """
    if parts == 1:
        return function(batch, *others)

    def split(x: jax.Array) -> jax.Array:
        """(b, ...) -> (parts, b / parts, ...): part i takes rows i, i + parts, ...

        Thus every device has its share of each part, and padding, which is at the end, is spread.
        """
        return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)

    pieces = jax.tree.map(split, (batch, *others))
    count = jnp.sum(batch.mask)

    def add(sums: PyTree, piece: tuple) -> tuple[PyTree, None]:
        share = jnp.sum(piece[0].mask) / count
        # `where`, not a product: the mean of a part without samples is NaN.
        return jax.tree.map(
            lambda s, x: s + jnp.where(share > 0, share * x, 0), sums, function(*piece)
        ), None

    shapes = jax.eval_shape(function, *jax.tree.map(lambda x: x[0], pieces))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(add, zeros, pieces)[0]
