"""Linear CKA from batches equals that of all features at once in float64; its invariances."""

import jax
import numpy as np
import pytest

from magmax_jax.analysis import cka
from magmax_jax.errors import UserError


def plain_cka(x: np.ndarray, y: np.ndarray) -> float:
    x, y = (z.astype(float) - z.astype(float).mean(axis=0) for z in (x, y))
    between, *within = (np.linalg.norm(a.T @ b) for a, b in ((y, x), (x, x), (y, y)))
    return between**2 / np.prod(within)


def streamed(x: np.ndarray, y: np.ndarray, batch: int, padding: float = 0.0) -> float:
    """CKA from batches of one size, the last one padded."""
    state = cka.init(x.shape[1], y.shape[1])
    for start in range(0, len(x), batch):
        parts = [z[start : start + batch] for z in (x, y)]
        short = batch - len(parts[0])
        padded = (np.pad(z, ((0, short), (0, 0)), constant_values=padding) for z in parts)
        state = cka.update(state, *padded, np.arange(batch) < len(parts[0]))
    assert state.count == len(x)
    return cka.finalize(state)


def features(n: int = 300, mean: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    common = random.normal(size=(n, 4))
    x = common @ random.normal(size=(4, 12)) + random.normal(size=(n, 12)) + mean
    y = common @ random.normal(size=(4, 7)) + random.normal(size=(n, 7)) - 3 * mean
    return x.astype(np.float32), y.astype(np.float32)


@pytest.mark.parametrize("mean", [0.0, 1e3])
@pytest.mark.parametrize("batch", [1, 64, 300])
def test_matches_float64_even_with_a_large_common_mean(batch, mean):
    x, y = features(mean=mean)
    assert 0.1 < plain_cka(x, y) < 0.9
    assert streamed(x, y, batch) == pytest.approx(plain_cka(x, y), abs=1e-4)


def test_padding_changes_nothing():
    x, y = features()
    assert streamed(x, y, 77, padding=1e4) == streamed(x, y, 77)


def test_rotations_scales_and_shifts_change_nothing():
    x, _ = features()
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))
    turned = (3 * x @ rotation + 5).astype(np.float32)
    assert streamed(x, turned, 64) == pytest.approx(1.0, abs=1e-5)


def test_constant_features_have_zero_similarity():
    x, _ = features()
    assert streamed(x, np.ones_like(x), 64) == 0.0
    assert cka.finalize(cka.init(2, 3)) == 0.0


def test_the_state_does_not_grow():
    x, y = features()
    state = cka.init(12, 7)
    shapes = jax.tree.map(np.shape, state)
    assert jax.tree.map(np.shape, cka.update(state, x, y)) == shapes


def test_invalid_input_is_rejected():
    x, y = features()
    for wrong in ((x, y[1:]), (y, x)):
        with pytest.raises(UserError, match=r"give \(b, 12\) and \(b, 7\)"):
            cka.update(cka.init(12, 7), *wrong)
