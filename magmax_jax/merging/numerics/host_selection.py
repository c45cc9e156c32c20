"""The exact k-th smallest of magnitudes in the host's memory, with few passes over them.

`numpy.partition` takes some 10 ns an entry. Here a sample says between which two values the answer
is to be expected; one pass counts the entries below and collects those between, and only these are
partitioned (Floyd and Rivest, 1975). If the sample misled, a second pass takes the side on which
the answer is.
"""

import math

import numpy as np

SMALL = 1 << 14
"""Entries up to which `numpy.partition` takes them all."""
SAMPLE = 1 << 14
"""About so many entries are sampled."""
PART = 1 << 16
"""Entries that are compared at once, so that they stay in the processor's cache."""
_LARGEST = 0x7FFFFFFF


def kth_smallest(magnitudes: np.ndarray, k: int) -> np.float32:
    """As `kth_magnitude` of the same entries.

    Args:
      magnitudes: float32 (n,), none negative, also not -0.0, none NaN.
      k: from 1, the smallest, to n. Below that range the result is 0, and above it infinity.

    >>> print(kth_smallest(np.float32([3, 1, 2]), 2))
    2.0
    """
    n = magnitudes.size
    if not 1 <= k <= n:
        return np.float32(0 if k < 1 else np.inf)
    if n <= SMALL:
        return np.partition(magnitudes, k - 1)[k - 1]
    bits = magnitudes.view(np.int32)  # which are ordered as the numbers are
    low, high = _expected(bits, k)
    below, inside = between(bits, low, high)
    if k <= below:
        below, inside = between(bits, 0, low - 1)
    elif k > below + inside.size:
        below, inside = between(bits, high + 1, _LARGEST)
    at = k - 1 - below
    return np.partition(inside, at)[at].view(np.float32)


def _expected(bits: np.ndarray, k: int) -> tuple[int, int]:
    """Between which two values, both included, the k-th smallest is but for bad luck."""
    # An odd stride, for widths of matrices are even: it meets all columns.
    sample = np.sort(bits[:: max(1, bits.size // SAMPLE) | 1])
    m, share = sample.size, (k - 0.5) / bits.size
    # Neighbours are alike, so more than chance among independent entries.
    spread = 4 * math.sqrt(m * share * (1 - share)) + m / 256
    first, last = math.floor(m * share - spread), math.ceil(m * share + spread)
    return (
        int(sample[first]) if first >= 0 else 0,
        int(sample[last]) if last < m else _LARGEST,
    )


def between(bits: np.ndarray, low: int, high: int) -> tuple[int, np.ndarray]:
    """How many entries are below `low`, and those from `low` to `high`: int32."""
    below, inside = 0, []
    for start in range(0, bits.size, PART):
        part = bits[start : start + PART]
        reaches = part >= low
        below += part.size - int(np.count_nonzero(reaches))
        inside.append(part[reaches & (part <= high)])
    return below, np.concatenate(inside)
