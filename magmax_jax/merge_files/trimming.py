"""Trims task vectors tensor by tensor before they are merged in chunks.

A first pass finds every tensor's threshold in every task vector. In the chunks, each row then
belongs to one tensor, so one compiled program trims and merges them all, whatever their shapes.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.io.safetensors.reader import Reader, Tensor
from magmax_jax.merge_files.chunk_sizes import LANES, WORKERS
from magmax_jax.merge_files.outcome import differences
from magmax_jax.merge_files.plan import Plan
from magmax_jax.merge_files.stream import Chunk
from magmax_jax.merging.numerics.host_selection import kth_smallest
from magmax_jax.merging.rule import Trims

PART = 1 << 17
"""Entries subtracted at once, few enough to stay in the CPU cache."""


class Least(NamedTuple):
    """What is kept of one tensor in every task vector.

    Attributes:
      magnitudes: float32 (t,), the smallest ones kept.
      last: int64 (t,), the last entry kept of those equal to it, or None if all are.
    """

    magnitudes: np.ndarray
    last: np.ndarray | None

    @staticmethod
    def rows(chunk: Chunk, least: Mapping[str, "Least"]) -> "Rows":
        """Those of a chunk whose tensors are aligned to its rows."""
        first = least[chunk.pieces[0].name]
        shape = first.magnitudes.size, chunk.arrays[0].size // LANES
        found = np.zeros(shape, np.float32)
        lanes = None if first.last is None else np.full(shape, LANES, np.int32)
        for name, start, size, position in chunk.pieces:
            rows = np.arange(position // LANES, -(-(position + size) // LANES))
            found[:, rows] = least[name].magnitudes[:, None]
            last = least[name].last
            if lanes is not None and last is not None:
                of_row = start + (rows * LANES - position)
                lanes[:, rows] = np.clip(last[:, None] - of_row, -1, LANES)
        return Rows(found, lanes)


def thresholds(plan: Plan, reader: Reader, trims: Trims) -> dict[str, Least]:
    """What every tensor to merge keeps in each task vector, by name.

    One pass, a few models at a time: memory holds one tensor of theta_0 and of as many task
    vectors.

    Raises:
      UserError: a file can no longer be read, or has shrunk.
    """
    found = {}
    with ThreadPoolExecutor(WORKERS) as pool:
        for name in plan.merged:
            theta_0 = reader.whole(plan.pretrained.tensors[name]).reshape(-1)
            models = [model.tensors[name] for model in plan.models]
            ranks = [trims.rank(theta_0.size, task) for task in range(1, len(models) + 1)]
            own = partial(_threshold, reader, theta_0, trims.exact)
            magnitudes, last = zip(*pool.map(own, ranks, models), strict=True)
            found[name] = Least(
                np.array(magnitudes, np.float32), np.array(last) if trims.exact else None
            )
    return found


def _threshold(
    reader: Reader, theta_0: np.ndarray, exact: bool, k: int, tensor: Tensor
) -> tuple[np.float32, int]:
    magnitudes = np.empty(theta_0.size, np.float32)
    theta = np.empty(min(PART, theta_0.size), tensor.dtype)
    for start in range(0, theta_0.size, PART):
        base = theta_0[start : start + PART]
        part = theta[: base.size]
        reader.into(part, tensor, start)
        (tau,) = differences(base, [part])
        np.abs(tau, out=magnitudes[start : start + PART])
    least = kth_smallest(magnitudes, k)
    return least, _last_kept(magnitudes, least, k) if exact else 0


def _last_kept(magnitudes: np.ndarray, least: np.float32, k: int) -> int:
    """The last entry equal to the k-th smallest magnitude that is kept, the first ones being so."""
    if least == 0:  # zeros need not be dropped
        return magnitudes.size
    starts = range(0, magnitudes.size, PART)
    parts = [magnitudes[start : start + PART] for start in starts]
    missing = magnitudes.size + 1 - k - sum(int(np.count_nonzero(p > least)) for p in parts)
    for start, part in zip(starts, parts, strict=True):
        equal = np.flatnonzero(part == least)
        if 0 < missing <= equal.size:
            return start + int(equal[missing - 1])
        missing -= equal.size
    return magnitudes.size


def alignment(plan: Plan) -> int:
    """`stream.cut`'s `align`: if the plan thins tensor by tensor, no row spans two tensors."""
    return LANES if plan.least else 1


class Rows(NamedTuple):
    """What a chunk's rows keep of every task vector; each row belongs to one tensor.

    Attributes:
      least: float32 (t, rows), the smallest magnitudes kept.
      last: int32 (t, rows), the last lane kept of those equal to it, or None if all are.
    """

    least: np.ndarray
    last: np.ndarray | None

    def thin(self, task: int | jax.Array, tau: jax.Array) -> jax.Array:
        """A chunk of a task vector (from 0), trimmed: (n,)."""
        last = None if self.last is None else self.last[task]
        return trim_rows(tau, self.least[task], last)


def rows_of(chunk: Chunk, least: Mapping[str, Any]) -> Any:
    """What to keep of a chunk, from a plan's `least`."""
    return type(least[chunk.pieces[0].name]).rows(chunk, least)


def trim_rows(tau: jax.Array, least: jax.Array, last: jax.Array | None = None) -> jax.Array:
    """The entries that their row keeps, the others zero: (n,), n = rows LANES.

    Args:
      least, last: one task vector's, as in `Rows`.
    """
    rows = tau.reshape(-1, LANES)
    magnitudes, bound = jnp.abs(rows), least[:, None]
    kept = magnitudes >= bound
    if last is not None:
        lane = jnp.arange(LANES, dtype=jnp.int32)
        kept = (magnitudes > bound) | ((magnitudes == bound) & (lane <= last[:, None]))
    return jnp.where(kept, rows, 0.0).reshape(-1)
