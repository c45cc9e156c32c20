"""Passes over all chunks of a plan's sources before they are merged."""

from collections.abc import Callable, Iterator

import numpy as np

from magmax_jax.io.safetensors.reader import Reader
from magmax_jax.merge_files.chunk_sizes import chunk_length
from magmax_jax.merge_files.outcome import differences
from magmax_jax.merge_files.plan import Plan
from magmax_jax.merge_files.stream import Chunk, Result, stream
from magmax_jax.merge_files.trimming import alignment


def each_chunk(
    plan: Plan,
    reader: Reader,
    function: Callable[[Chunk], Result],
    length: int | None = None,
    every: int = 1,
) -> Iterator[Result]:
    """The results of a function on each chunk of theta_0 and all models; see `stream`.

    In place of float64, which JAX would round, the function gets zeros and float32 task vectors.
    """

    def narrowed(chunk: Chunk) -> Result:
        if any(array.dtype == np.float64 for array in chunk.arrays):
            theta_0, *thetas = chunk.arrays
            taus = differences(theta_0, thetas)
            chunk = chunk._replace(arrays=(np.zeros(theta_0.shape, np.float32), *taus))
        return function(chunk)

    sources = [plan.pretrained, *plan.models]
    length = length or chunk_length(len(sources))
    align = alignment(plan)
    for _, found in stream(plan.merged, sources, reader, length, narrowed, every, align=align):
        yield found
