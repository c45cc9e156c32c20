"""Sizes of the chunks of a pass (see `stream`) and of its buffers."""

import os

WORKERS = min(4, os.cpu_count() or 1)
"""Threads that read and compute."""
SETS = WORKERS + 1
"""Sets of buffers: each worker fills one, while the caller writes the result of another."""
BUFFER_BYTES = 24 << 20
"""Total size of all sets of buffers."""
LARGEST, SMALLEST = 1 << 20, 1 << 14
"""Bounds on the entries of a chunk: a larger one exceeds the caches, a smaller one needs more
calls."""
LANES = 2048
"""Entries in a row of a chunk; divides the length of every chunk. Norms are added up row by row:
rows of 1024 take a tenth longer, and twice as long to compile; rows of 8192 exceed the L1 cache."""


def chunk_length(sources: int) -> int:
    """Entries of a chunk for this many sources, including the state."""
    return min(max(BUFFER_BYTES // (4 * SETS * sources), SMALLEST), LARGEST) // LANES * LANES
