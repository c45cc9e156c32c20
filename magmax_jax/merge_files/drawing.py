"""Thins task vectors at random while they are merged in chunks.

Each row of a chunk belongs to one tensor and draws what the whole tensor would draw there, so one
compiled program thins and merges them all, whatever their shapes, and memory holds none whole.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.io.safetensors.reader import Reader
from magmax_jax.merge_files.chunk_sizes import LANES
from magmax_jax.merge_files.passes import each_chunk
from magmax_jax.merge_files.plan import Plan
from magmax_jax.merge_files.stream import Chunk, Piece, chunk_task_vectors, stacked
from magmax_jax.merging.leaf_names import seed_words
from magmax_jax.merging.numerics.over_tasks import each
from magmax_jax.merging.numerics.threefry import folded, uniform_at
from magmax_jax.merging.rule import Thins
from magmax_jax.merging.rules.thinning import LEAST_NORM


class DrawnRows(NamedTuple):
    """What a chunk's rows draw for every task vector; each row belongs to one tensor.

    Attributes:
      keys: uint32 (t, 2, rows), the words of each row's key.
      places: uint32 (2, rows), the words of the place of its first entry in its tensor.
      factors: float32 (t, rows), by which kept entries are multiplied.
      bounds: float32 (t, 2): an entry is kept if its draw is at least the first and less than the
        second.
    """

    keys: np.ndarray
    places: np.ndarray
    factors: np.ndarray
    bounds: np.ndarray

    def thin(self, task: int | jax.Array, tau: jax.Array) -> jax.Array:
        """A chunk of a task vector (from 0), thinned and rescaled: (n,), n = rows LANES."""
        kept = jnp.where(self.kept(task), tau.reshape(-1, LANES), 0.0)
        return (kept * self.factors[task][:, None]).reshape(-1)

    def kept(self, task: int | jax.Array) -> jax.Array:
        """Where the draws keep entries of a task vector (from 0): bool (rows, LANES)."""
        high, low = (jnp.asarray(words)[:, None] for words in self.places)
        lanes = low + jnp.arange(LANES, dtype=jnp.uint32)  # never carries: rows are aligned
        first, second = (jnp.asarray(words)[:, None] for words in self.keys[task])
        draw = uniform_at((first, second), high, lanes)
        return (self.bounds[task, 0] <= draw) & (draw < self.bounds[task, 1])


class Drawn(NamedTuple):
    """What is drawn for one tensor.

    Attributes:
      keys: uint32 (t, 2), one for each task vector.
      factors: float32 (t,), by which kept entries are multiplied.
      bounds: as in `DrawnRows`.
    """

    keys: np.ndarray
    factors: np.ndarray
    bounds: np.ndarray

    @staticmethod
    def rows(chunk: Chunk, drawn: Mapping[str, "Drawn"]) -> DrawnRows:
        """Those of a chunk whose tensors are aligned to its rows."""
        bounds = drawn[chunk.pieces[0].name].bounds
        tasks, rows = len(bounds), chunk.arrays[0].size // LANES
        keys = np.zeros((tasks, 2, rows), np.uint32)
        factors = np.zeros((tasks, rows), np.float32)
        first = np.zeros(rows, np.int64)
        for name, start, size, position in chunk.pieces:
            own = np.arange(position // LANES, -(-(position + size) // LANES))
            keys[:, :, own] = drawn[name].keys[:, :, None]
            factors[:, own] = drawn[name].factors[:, None]
            first[own] = start + (own * LANES - position)
        places = np.stack([first >> 32, first & 0xFFFFFFFF]).astype(np.uint32)
        return DrawnRows(keys, places, factors, bounds)


def draws(plan: Plan, reader: Reader, thins: Thins) -> dict[str, Drawn]:
    """What every tensor to merge draws, by name; one pass if the kept entries are rescaled.

    Raises:
      UserError: a file can no longer be read, or has shrunk.
    """
    tasks = range(1, len(plan.models) + 1)
    bounds = np.array([thins.bounds(task) for task in tasks], np.float32)
    ones = np.ones(len(tasks), np.float32)
    drawn = {}
    for name in plan.merged:
        words = seed_words(thins.seed, name)
        keys = np.stack([folded(words, task) for task in tasks])
        drawn[name] = Drawn(keys, ones, bounds)
    if not thins.rescale:
        return drawn
    norms = {name: np.zeros((2, len(tasks))) for name in plan.merged}
    aligned = dataclasses.replace(plan, least=drawn)

    def part(chunk: Chunk) -> tuple[list[Piece], np.ndarray]:
        theta_0, *thetas = chunk.arrays
        norms = _norms(Drawn.rows(chunk, drawn), theta_0, *stacked(thetas))
        return chunk.pieces, np.asarray(norms)

    for pieces, found in each_chunk(aligned, reader, part):
        for name, _, size, position in pieces:
            own = slice(position // LANES, -(-(position + size) // LANES))
            norms[name] += found[:, :, own].sum(axis=2, dtype=np.float64)
    return {name: each._replace(factors=_factors(*norms[name])) for name, each in drawn.items()}


def _factors(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """What keeps the L1 norms, as in `thinning.only`: float32 (t,)."""
    small = (before < LEAST_NORM) | (after < LEAST_NORM)
    return np.where(small, 1.0, before / np.where(small, 1.0, after)).astype(np.float32)


@jax.jit
def _norms(rows: DrawnRows, theta_0: jax.Array, *thetas: jax.Array) -> jax.Array:
    """L1 norms of every task vector's rows, before and after thinning: float32 (2, t, rows)."""
    taus = chunk_task_vectors(theta_0, thetas)

    def of_task(task: int | jax.Array, tau: jax.Array) -> jax.Array:
        before = jnp.abs(tau)
        rest = jnp.stack([before, rows.thin(task, before)])  # whose factors are 1
        rest = rest.reshape(2, -1, LANES)
        # The program itself fixes the order, so chunks of any number of rows give the same bits.
        while half := rest.shape[-1] // 2:
            rest = rest[..., :half] + rest[..., half:]
        return rest[..., 0]

    if isinstance(taus, jax.Array):
        return jnp.swapaxes(each(of_task, jnp.arange(len(taus)), taus), 0, 1)
    return jnp.stack([of_task(task, tau) for task, tau in enumerate(taus)], axis=1)
