"""The out-of-core pass: pieces of all models side by side, one compiled call per piece.

Rules that treat every entry alike do not care where a tensor begins, so a checkpoint is one long
stream: chunks of one size, filled across tensors, compile one call for all of them. While one chunk
is merged, the next is read into the other of two buffers; memory is those buffers, whatever the
models' size.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.io.safetensors.computed import Computed
from magmax_jax.io.safetensors.reader import Reader, Tensor, TensorFiles

BUFFER_BYTES = 24 << 20
"""What the two sets of buffers take together."""
LARGEST, SMALLEST = 1 << 20, 1 << 14
"""Bounds on the entries of a chunk: a larger one leaves the caches, a smaller one costs calls."""
ALIGNMENT = 64
"""At which XLA takes the host's memory as it is, without a copy."""


class Piece(NamedTuple):
    """`size` entries of a tensor from its entry `start` on, at `position` in a chunk."""

    name: str
    start: int
    size: int
    position: int


class Chunk(NamedTuple):
    """Entries of one or several tensors, of every source side by side."""

    pieces: list[Piece]
    size: int
    """Entries in use; the rest of the arrays is zero."""
    arrays: tuple[np.ndarray, ...]
    """One a source, all of the chunk's length."""


def chunk_length(sources: int) -> int:
    """Entries of a chunk for so many sources, state included."""
    return int(np.clip(BUFFER_BYTES // (8 * sources), SMALLEST, LARGEST)) // 1024 * 1024


def cut(
    names: Sequence[str],
    sources: Sequence[TensorFiles],
    length: int,
    out_dtypes: Mapping[str, np.dtype] = MappingProxyType({}),
) -> Iterator[list[Piece]]:
    """Divides the stream of all tensors' entries into chunks; dtypes change between chunks only.

    Args:
      out_dtypes: by name, where the merged tensors' matter.
    """
    pieces: list[Piece] = []
    filled, dtypes = 0, None
    for name in names:
        kinds = (out_dtypes.get(name), *(source.tensors[name].dtype for source in sources))
        if pieces and (kinds != dtypes or filled == length):
            yield pieces
            pieces, filled = [], 0
        dtypes = kinds
        start, size = 0, sources[0].tensors[name].size
        while start < size:
            count = min(size - start, length - filled)
            pieces.append(Piece(name, start, count, filled))
            start, filled = start + count, filled + count
            if filled == length:
                yield pieces
                pieces, filled = [], 0
    if pieces:
        yield pieces


def stream(
    names: Sequence[str],
    sources: Sequence[TensorFiles],
    reader: Reader,
    length: int,
    every: int = 1,
    out_dtypes: Mapping[str, np.dtype] = MappingProxyType({}),
) -> Iterator[Chunk]:
    """The chunks of `names` in turn, read ahead by one; of `every` so many the first.

    A chunk's arrays are reused two chunks later: what was computed of them must be done by then.
    """
    width = max(
        (source.tensors[name].dtype.itemsize for source in sources for name in names), default=4
    )
    buffers = [[_aligned(max(4, width) * length) for _ in sources] for _ in range(2)]

    def fill(pieces: list[Piece], memory: list[np.ndarray]) -> Chunk:
        arrays = []
        for source, raw in zip(sources, memory, strict=True):
            array = raw.view(source.tensors[pieces[0].name].dtype)[:length]
            for run in _runs(pieces, source.tensors):
                reader.into(
                    array[run.position : run.position + run.size],
                    source.tensors[run.name],
                    run.start,
                )
            arrays.append(array)
        count = pieces[-1].position + pieces[-1].size
        for array in arrays:
            array[count:] = 0
        return Chunk(pieces, count, tuple(arrays))

    with ThreadPoolExecutor(1) as pool:
        ahead = None
        for i, pieces in enumerate(islice(cut(names, sources, length, out_dtypes), 0, None, every)):
            coming = pool.submit(fill, pieces, buffers[i % 2])
            if ahead is not None:
                yield ahead.result()
            ahead = coming
        if ahead is not None:
            yield ahead.result()


def chunk_task_vector(theta: jax.Array, theta_0: jax.Array) -> jax.Array:
    """The task vector of a chunk, float32: zero where both are the same, also where both are -inf.

    Masks of attention hold -inf; the difference of two would be NaN.
    """
    return jnp.where(theta.astype(jnp.float32) == theta_0, 0, theta.astype(jnp.float32) - theta_0)


def _runs(pieces: list[Piece], tensors: dict[str, Tensor]) -> Iterator[Piece]:
    """Joins pieces that lie one behind the other in the file too: one read instead of many."""
    run = pieces[0]
    for piece in pieces[1:]:
        first, tensor = tensors[run.name], tensors[piece.name]
        width = tensor.dtype.itemsize
        end = first.offset + (run.start + run.size) * width
        stored = not isinstance(first, Computed) and not isinstance(tensor, Computed)
        if stored and first.path == tensor.path and end == tensor.offset + piece.start * width:
            run = run._replace(size=run.size + piece.size)
        else:
            yield run
            run = piece
    yield run


def _aligned(nbytes: int) -> np.ndarray:
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes]
