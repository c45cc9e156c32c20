"""Memory that JAX uses directly on CPUs, without copying."""

import math

import numpy as np

ALIGNMENT = 64
"""In bytes; `jax.device_put` requires it to use NumPy's memory without a copy."""


def aligned(shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> np.ndarray:
    """Like `np.empty`, but aligned."""
    nbytes = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes].view(dtype).reshape(shape)
