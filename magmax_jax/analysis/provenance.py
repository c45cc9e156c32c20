"""Provenance: which task supplied which part of MagMax's merged model."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from magmax_jax.analysis.leaves import named_leaves
from magmax_jax.errors import UserError
from magmax_jax.merging.any_mesh import jit_on_any_mesh
from magmax_jax.merging.rules.elementwise import Sourced


class Supplied(NamedTuple):
    """What one task supplied to one leaf, or layer of a leaf, of the merged task vector tau.

    Attributes:
      leaf: the leaf's name.
      layer: the index along a stacked leaf's first axis, from 0; None for other leaves.
      task: from 1.
      entries: total number there.
      supplied: exact number of entries whose change is this task's.
      squared_norm: the sum of their squares.
    """

    leaf: str
    layer: int | None
    task: int
    entries: int
    supplied: int
    squared_norm: float


def supplied(
    state: Sourced, stacked: Callable[[str], bool] = lambda name: False
) -> Iterator[Supplied]:
    """What each task supplied to each leaf, or to each layer of a stacked one.

    An entry that no task changed was supplied by no task. Makes one pass over the state per task.

    Args:
      state: of `rules.max_magnitude(provenance=True)` after at least one task. Entries supplied by
        tasks after the 255th are counted as the 255th's (`Sourced`).
      stacked: a leaf's name -> whether its first axis runs over layers, (l, ...).

    Yields:
      By leaf, by layer, by task.

    Raises:
      UserError: the state has no provenance, or a stacked leaf has no axes.
    """
    if not isinstance(state, Sourced):
        raise UserError(
            "this state does not record which task supplied which entry: merge with "
            "max_magnitude(provenance=True)"
        )
    leaves = named_leaves(state.tau)
    layered = frozenset(name for name in leaves if stacked(name))
    for name in layered:
        if not leaves[name].ndim:
            raise UserError(f"{name!r} is a scalar: it cannot be stacked over layers")
    tasks = range(1, min(int(state.count), 255) + 1)
    found = [jax.device_get(_of_task(state, jnp.uint8(task), layered)) for task in tasks]
    for name, leaf in leaves.items():
        layers = len(leaf) if name in layered else 1
        for layer in range(layers):
            for task, (counts, squares) in zip(tasks, (each[name] for each in found), strict=True):
                yield Supplied(
                    leaf=name,
                    layer=layer if name in layered else None,
                    task=task,
                    entries=leaf.size // layers,
                    supplied=int(counts[layer]),
                    squared_norm=float(squares[layer]),
                )


@jit_on_any_mesh(like=None, static_argnums=2)
def _of_task(
    state: Sourced, task: jax.Array, layered: frozenset[str]
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Per leaf: entries supplied and their sum of squares, int32 and float32 (l,), or (1,)."""
    found = {}
    sources, signs = named_leaves(state.source, state.tau), named_leaves(state.signs, state.tau)
    for name, leaf in named_leaves(state.tau).items():
        own = (sources[name] == task) & (signs[name] != 0)
        squares = jnp.where(own, jnp.square(leaf), 0.0)
        rest = tuple(range(1, leaf.ndim)) if name in layered else None
        counts = jnp.sum(own, axis=rest, dtype=jnp.int32)
        found[name] = jnp.atleast_1d(counts), jnp.atleast_1d(jnp.sum(squares, axis=rest))
    return found
