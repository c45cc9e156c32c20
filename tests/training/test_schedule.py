"""The learning rate against the recipe's formula."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from magmax_jax.config import TrainConfig
from magmax_jax.training import peak_share, warmup_cosine, warmup_steps


@pytest.mark.parametrize(("warmup", "steps"), [(3, 10), (0, 5), (500, 80), (10, 10)])
def test_every_step_matches_the_formula(warmup, steps):
    for step in range(steps):
        if step < warmup:
            expected = 2e-5 * (step + 1) / warmup
        else:
            progress = (step - warmup) / max(steps - warmup, 1)
            expected = 2e-5 * 0.5 * (1 + math.cos(math.pi * progress))
        rate = warmup_cosine(jnp.int32(step), 2e-5, jnp.int32(warmup), jnp.int32(steps))
        np.testing.assert_allclose(rate, expected, rtol=1e-5)


def test_a_task_shorter_than_its_warmup_never_peaks():
    """cifar100 in 50 tasks has 80 steps a task: the peak of 1e-5 becomes 1.6e-6."""
    rates = warmup_cosine(jnp.arange(80), 1e-5, jnp.int32(500), jnp.int32(80))
    np.testing.assert_allclose(rates.max(), 1.6e-6, rtol=1e-5)


def test_the_share_of_the_peak_matches_the_schedule():
    for recipe in (TrainConfig(), TrainConfig(warmup_fraction=0.1), TrainConfig(warmup_steps=0)):
        for steps in (10, 80, 500, 700):
            warmup = jnp.int32(warmup_steps(recipe, steps))
            rates = warmup_cosine(jnp.arange(steps), 1.0, warmup, jnp.int32(steps))
            np.testing.assert_allclose(peak_share(recipe, steps), rates.max(), rtol=1e-5)


def test_the_warmup_is_a_number_or_a_fraction():
    assert warmup_steps(TrainConfig(), 80) == 500
    assert warmup_steps(TrainConfig(warmup_fraction=0.1), 80) == 8
    assert warmup_steps(TrainConfig(warmup_fraction=0.0), 80) == 0
