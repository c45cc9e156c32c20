"""Trims task vectors tensor by tensor before they are merged in chunks.

A first pass finds every tensor's threshold in every task vector. In the chunks, each row then
belongs to one tensor, so one compiled program trims and merges them all, whatever their shapes.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.io.safetensors.reader import Reader, Tensor
from magmax_jax.merge_files.outcome import differences
from magmax_jax.merge_files.plan import Plan
from magmax_jax.merge_files.stream import LANES, WORKERS, Chunk
from magmax_jax.merging.numerics.host_selection import kth_smallest

PART = 1 << 17
"""Entries subtracted at once, few enough to stay in the CPU cache."""


def thresholds(plan: Plan, reader: Reader, rank: Callable[[int], int]) -> dict[str, np.ndarray]:
    """The `rank`(entries)-th smallest magnitude of every tensor to merge, in each task vector.

    One pass, a few models at a time: memory holds one tensor of theta_0 and of as many task
    vectors.

    Returns:
      By name, float32 (t,).

    Raises:
      UserError: a file can no longer be read, or has shrunk.
    """
    found = {}
    with ThreadPoolExecutor(WORKERS) as pool:
        for name in plan.merged:
            theta_0 = reader.whole(plan.pretrained.tensors[name]).reshape(-1)
            own = partial(_threshold, reader, theta_0, rank(theta_0.size))
            models = [model.tensors[name] for model in plan.models]
            found[name] = np.array(list(pool.map(own, models)), np.float32)
    return found


def _threshold(reader: Reader, theta_0: np.ndarray, k: int, tensor: Tensor) -> np.float32:
    magnitudes = np.empty(theta_0.size, np.float32)
    theta = np.empty(min(PART, theta_0.size), tensor.dtype)
    for start in range(0, theta_0.size, PART):
        base = theta_0[start : start + PART]
        part = theta[: base.size]
        reader.into(part, tensor, start)
        (tau,) = differences(base, [part])
        np.abs(tau, out=magnitudes[start : start + PART])
    return kth_smallest(magnitudes, k)


def alignment(plan: Plan) -> int:
    """`stream.cut`'s `align`: if the plan trims tensor by tensor, no row spans two tensors."""
    return LANES if plan.least else 1


def rows_of(chunk: Chunk, least: Mapping[str, np.ndarray]) -> np.ndarray:
    """The thresholds of a chunk's rows, whose tensors are aligned to them: float32 (t, rows)."""
    models = least[chunk.pieces[0].name].size
    found = np.zeros((models, chunk.arrays[0].size // LANES), np.float32)
    for name, _, size, position in chunk.pieces:
        found[:, position // LANES : -(-(position + size) // LANES)] = least[name][:, None]
    return found


def trim_rows(tau: jax.Array, least: jax.Array) -> jax.Array:
    """The entries that reach their row's threshold, the others zero: (n,), n = rows LANES."""
    rows = tau.reshape(-1, LANES)
    return jnp.where(jnp.abs(rows) >= least[:, None], rows, 0.0).reshape(-1)
