"""A batch in parts against the whole batch; `test_sharding.py` has whole runs in parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from magmax_jax.training.accumulation import mean_over_parts
from tests.training.test_step import batch_of

WEIGHTS = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def gradient(batch, inputs):
    """Gradient of a mean over samples plus a penalty on parameters; padding has infinite loss."""

    def loss_fn(weights):
        losses = jnp.where(batch.label == 1, jnp.inf, jnp.sum(inputs @ weights, axis=1) ** 2)
        mean = jnp.sum(jnp.where(batch.mask, losses, 0)) / jnp.sum(batch.mask)
        return mean + 0.3 * jnp.sum(weights**2)

    return jax.value_and_grad(loss_fn)(jnp.asarray(WEIGHTS))


@pytest.mark.parametrize(("samples", "padding"), [(8, 0), (7, 1), (5, 3), (3, 5), (1, 7)])
@pytest.mark.parametrize("parts", [2, 4, 8])
def test_parts_are_weighted_by_their_number_of_samples(samples, padding, parts):
    """Also if some part is all padding, as with fewer samples than parts."""
    batch = batch_of(samples, padding)
    inputs = np.random.default_rng(samples).normal(size=(8, 3)).astype(np.float32)
    expected = gradient(batch, inputs)
    found = jax.jit(lambda b, x: mean_over_parts(gradient, parts, b, x))(batch, inputs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)
