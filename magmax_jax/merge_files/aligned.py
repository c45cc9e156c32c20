"""Memory that JAX takes as it is, on CPUs, instead of copying it."""

import math

import numpy as np

ALIGNMENT = 64
"""In bytes, what `jax.device_put` asks of NumPy's memory."""


def aligned(shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> np.ndarray:
    """An array like `np.empty`'s."""
    nbytes = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes].view(dtype).reshape(shape)
