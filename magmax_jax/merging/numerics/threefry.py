"""JAX's random bits for any part of an array, without those of the rest.

The same bits as `jax.random.bits` of the whole array under a `threefry2x32` key, whose bits depend
only on the key and on an entry's place. One expression, which compiles into one loop over
registers; on CPU, JAX's own passes over memory once per four rounds.
"""

from typing import Any

import numpy as np

ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
PARITY = np.uint32(0x1BD11BDA)


def threefry(key: tuple[Any, Any], high: Any, low: Any) -> tuple[Any, Any]:
    """Threefry-2x32 of 20 rounds (Salmon et al., 2011, doi:10.1145/2063384.2063405).

    Args:
      key: two arrays of words, uint32.
      high, low: the counter's words, uint32 arrays that broadcast with the key's.

    Returns:
      two uint32 arrays, NumPy's if all arguments are.
    """
    words = (*key, key[0] ^ key[1] ^ PARITY)
    x, y = high + words[0], low + words[1]
    for group in range(5):
        for turn in ROTATIONS[group % 2]:
            x = x + y
            y = ((y << np.uint32(turn)) | (y >> np.uint32(32 - turn))) ^ x
        x = x + words[(group + 1) % 3]
        y = y + words[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def folded(words: np.ndarray, data: int) -> np.ndarray:
    """The words of `jax.random.fold_in(key, data)`: uint32 (2,), from those of the key."""
    high, low = np.zeros(1, np.uint32), np.full(1, data, np.uint32)
    return np.concatenate(threefry((words[:1], words[1:]), high, low))


def uniform_at(key: tuple[Any, Any], high: Any, low: Any) -> Any:
    """Entries of `jax.random.uniform` of a whole array, in [0, 1), each a multiple of 2^-23.

    Args:
      key: of the array.
      high, low: words of the entries' places in it, row by row.
    """
    x, y = threefry(key, high, low)
    return ((x ^ y) >> np.uint32(9)).astype(np.float32) * np.float32(2.0**-23)
