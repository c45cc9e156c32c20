"""Our Threefry: the published vectors, and JAX's bits for any part of an array."""

import jax
import numpy as np
import pytest

from magmax_jax.merging.leaf_names import seed_words
from magmax_jax.merging.numerics.threefry import folded, threefry, uniform_at
from magmax_jax.merging.rule import leaf_key


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_it_gives_the_vectors_of_random123(key, counter, expected):
    words = [np.array([word], np.uint32) for word in (*key, *counter)]
    found = threefry((words[0], words[1]), *words[2:])
    assert tuple(int(word[0]) for word in found) == expected


@pytest.mark.parametrize("start", [0, 37, 39_990])
def test_a_part_of_an_array_draws_what_the_whole_one_does(start):
    key = folded(seed_words(3, "a.weight"), 7)
    low = np.arange(start, min(start + 1000, 40_000), dtype=np.uint32)
    found = uniform_at((key[:1], key[1:]), np.zeros(1, np.uint32), low)
    whole = np.asarray(jax.random.uniform(leaf_key(3, 7, "a.weight"), (100, 400))).reshape(-1)
    np.testing.assert_array_equal(found, whole[start : start + 1000])
