"""The out-of-core pass: pieces of all models side by side, one compiled call per piece.

Rules that treat every entry the same do not depend on tensor boundaries, so a checkpoint is one
long stream: chunks of one size, filled across tensors, need only one compiled call. A few threads
each read a chunk, hash it if sha256s are needed, and compute with it while it is in the CPU cache.
Memory is their buffers, whatever the models' size.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.io.safetensors.computed import Computed
from magmax_jax.io.safetensors.reader import Reader, Tensor, TensorFiles
from magmax_jax.merge_files.aligned import aligned
from magmax_jax.merge_files.chunk_sizes import SETS, WORKERS
from magmax_jax.merging.numerics import over_tasks
from magmax_jax.merging.numerics.over_tasks import EachTask

Result = TypeVar("Result")
Turns = Sequence[threading.Event]


class Piece(NamedTuple):
    """`size` entries of a tensor from its entry `start` on, at `position` in a chunk."""

    name: str
    start: int
    size: int
    position: int


class Chunk(NamedTuple):
    """Entries of one or several tensors, with all sources side by side."""

    pieces: list[Piece]
    size: int
    """Up to the last entry in use; the rest of the arrays is zero, and so are alignment gaps."""
    arrays: tuple[np.ndarray, ...]
    """One per source, all of the chunk's length."""


def cut(
    names: Sequence[str],
    sources: Sequence[TensorFiles],
    length: int,
    out_dtypes: Mapping[str, np.dtype] = MappingProxyType({}),
    align: int = 1,
) -> Iterator[list[Piece]]:
    """Divides the stream of all tensors' entries into chunks; dtypes change only between chunks.

    Args:
      out_dtypes: by name, if the merged tensors' matter.
      align: tensors start at multiples of it; it divides `length`.
    """
    pieces: list[Piece] = []
    filled, dtypes = 0, None
    for name in names:
        filled = -(-filled // align) * align
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
    function: Callable[[Chunk], Result],
    every: int = 1,
    out_dtypes: Mapping[str, np.dtype] = MappingProxyType({}),
    align: int = 1,
) -> Iterator[tuple[Chunk, Result]]:
    """Yields every `every`-th chunk of `names`, from the first, with `function` of it.

    A chunk's arrays are reused once the next pair is requested. The reader's digests are fed what
    is read.

    Args:
      function: called from threads, after each chunk has been read.
      align: as for `cut`; there are then zeros between tensors.
    """
    width = max(
        (source.tensors[name].dtype.itemsize for source in sources for name in names), default=4
    )
    free = [[aligned((max(4, width) * length,), np.uint8) for _ in sources] for _ in range(SETS)]
    running: deque[tuple[list[np.ndarray], Future[tuple[Chunk, Result]]]] = deque()
    turns = [_done() for _ in sources]

    def work(pieces: list[Piece], memory: list[np.ndarray], *turns: Turns) -> tuple[Chunk, Result]:
        chunk = _read(pieces, sources, memory, length, reader, *turns)
        return chunk, function(chunk)

    with ThreadPoolExecutor(WORKERS) as pool:
        for pieces in islice(cut(names, sources, length, out_dtypes, align), 0, None, every):
            if not free:
                memory, future = running.popleft()
                yield future.result()
                free.append(memory)
            before, turns = turns, [threading.Event() for _ in sources]
            memory = free.pop()
            running.append((memory, pool.submit(work, pieces, memory, before, turns)))
        while running:
            yield running.popleft()[1].result()


def _done() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def _read(
    pieces: list[Piece],
    sources: Sequence[TensorFiles],
    memory: Sequence[np.ndarray],
    length: int,
    reader: Reader,
    before: Turns,
    after: Turns,
) -> Chunk:
    """Reads a chunk of every source.

    Args:
      before: set, source by source, once the previous chunk was fed to the digests.
      after: to be set likewise for this one.
    """
    count = pieces[-1].position + pieces[-1].size
    arrays = []
    try:
        for source, raw, turn, done in zip(sources, memory, before, after, strict=True):
            array = raw.view(source.tensors[pieces[0].name].dtype)[:length]
            end = 0
            for run in _runs(pieces, source.tensors):
                array[end : run.position] = 0
                end = run.position + run.size
                part = array[run.position : end]
                reader.into(part, source.tensors[run.name], run.start)
                if reader.digests:
                    turn.wait()
                    reader.digest(part, source.tensors[run.name], run.start)
            done.set()
            array[count:] = 0
            arrays.append(array)
    finally:  # so that no thread waits for ever after an error
        for done in after:
            done.set()
    return Chunk(pieces, count, tuple(arrays))


def chunk_task_vectors(theta_0: jax.Array, thetas: Sequence[jax.Array]) -> EachTask:
    """`chunk_task_vector` of every model.

    Args:
      thetas: (n,) each, or all in one array (t, n).
    """
    theta_0 = theta_0.astype(jnp.float32)
    if thetas and thetas[0].ndim == 2:
        return chunk_task_vector(thetas[0], theta_0)
    return tuple(chunk_task_vector(theta, theta_0) for theta in thetas)


def chunk_task_vector(theta: jax.Array, theta_0: jax.Array) -> jax.Array:
    """The task vector of a chunk, float32: zero where both are equal, even if both are -inf.

    Attention masks hold -inf; the difference of two would be NaN.
    """
    return jnp.where(theta.astype(jnp.float32) == theta_0, 0, theta.astype(jnp.float32) - theta_0)


def stacked(arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """A chunk's entries of all models: as they are, or of many in one new array, (t, n).

    It has their dtype, or float32 if they differ.
    """
    if len(arrays) <= over_tasks.UNROLLED:
        return arrays
    dtypes = {array.dtype for array in arrays}
    return [np.stack([array.astype(np.float32) for array in arrays] if len(dtypes) > 1 else arrays)]


def _runs(pieces: list[Piece], tensors: dict[str, Tensor]) -> Iterator[Piece]:
    """Joins pieces that are also contiguous in the file: one read instead of many."""
    run = pieces[0]
    for piece in pieces[1:]:
        first, tensor = tensors[run.name], tensors[piece.name]
        width = tensor.dtype.itemsize
        end = first.offset + (run.start + run.size) * width
        stored = not isinstance(first, Computed) and not isinstance(tensor, Computed)
        behind = end == tensor.offset + piece.start * width
        close = piece.position == run.position + run.size
        if stored and close and behind and first.path == tensor.path:
            run = run._replace(size=run.size + piece.size)
        else:
            yield run
            run = piece
    yield run
