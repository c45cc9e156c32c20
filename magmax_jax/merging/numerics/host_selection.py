"""The exact k-th smallest of magnitudes in host memory, in few passes.

`numpy.partition` takes some 10 ns an entry. Here a sample predicts two values that bracket the
answer; one pass counts the entries below and collects those between, and only these are partitioned
(Floyd and Rivest, 1975). If the prediction was wrong, a second pass takes the side that holds the
answer.
"""

import math

import numpy as np

SMALL = 1 << 14
"""Up to this many entries, `numpy.partition` takes them all."""
SAMPLE = 1 << 14
"""Approximate number of entries sampled."""
PART = 1 << 16
"""Entries compared at once, few enough to stay in the CPU cache."""
_LARGEST = 0x7FFFFFFF


def kth_smallest(magnitudes: np.ndarray, k: int) -> np.float32:
    """Same result as `kth_magnitude` of these entries.

    Args:
      magnitudes: float32 (n,), without negative numbers, -0.0 or NaN.
      k: from 1, the smallest, to n. Below that range the result is 0, and above it infinity.

    >>> print(kth_smallest(np.float32([3, 1, 2]), 2))
    2.0
    """
    n = magnitudes.size
    if not 1 <= k <= n:
        return np.float32(0 if k < 1 else np.inf)
    if n <= SMALL:
        return np.partition(magnitudes, k - 1)[k - 1]
    bits = magnitudes.view(np.int32)  # same order as the floats
    low, high = _expected(bits, k)
    below, inside = between(bits, low, high)
    if k <= below:
        below, inside = between(bits, 0, low - 1)
    elif k > below + inside.size:
        below, inside = between(bits, high + 1, _LARGEST)
    at = k - 1 - below
    return np.partition(inside, at)[at].view(np.float32)


def _expected(bits: np.ndarray, k: int) -> tuple[int, int]:
    """Two values, inclusive, that bracket the k-th smallest with high probability."""
    # Odd stride: matrix widths are even, so all columns are sampled.
    sample = np.sort(bits[:: max(1, bits.size // SAMPLE) | 1])
    m, share = sample.size, (k - 0.5) / bits.size
    # Wider than for independent entries, because neighbours are similar.
    spread = 4 * math.sqrt(m * share * (1 - share)) + m / 256
    first, last = math.floor(m * share - spread), math.ceil(m * share + spread)
    return (
        int(sample[first]) if first >= 0 else 0,
        int(sample[last]) if last < m else _LARGEST,
    )


def between(bits: np.ndarray, low: int, high: int) -> tuple[int, np.ndarray]:
    """The number of entries below `low`, and the entries from `low` to `high`: int32."""
    below, inside = 0, []
    for start in range(0, bits.size, PART):
        part = bits[start : start + PART]
        reaches = part >= low
        below += part.size - int(np.count_nonzero(reaches))
        inside.append(part[reaches & (part <= high)])
    return below, np.concatenate(inside)
