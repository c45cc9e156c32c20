"""Random batches, objectives and tasks for the tiny CLIP: 16 pixels, features of width 16."""

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.data import Batch, Preprocessing
from magmax_jax.models import image_features
from magmax_jax.training import Forward, Objective

CLASSES = np.array([True, False, True, True])

TASKS = [[2, 5], [0], [1, 3, 4]]
"""Classes of three tasks, as they arrive, out of six."""


def batch_of(count: int, padding: int = 0) -> Batch:
    """Images of the classes 0, 2 and 3, padded with label 1."""
    random = np.random.default_rng(count)
    size = count + padding
    image = np.zeros((size, 16, 16, 3), np.uint8)
    image[:count] = random.integers(0, 256, (count, 16, 16, 3))
    label = np.where(np.arange(size) < count, random.choice([0, 2, 3], size), 1)
    index = np.where(np.arange(size) < count, np.arange(size), -1)
    box = np.tile(np.array([0, 0, 16, 16], np.int32), (size, 1))
    return Batch(image, box, label.astype(np.int32), index.astype(np.int32), index >= 0)


def objective(steps: int = 4, classes: np.ndarray = CLASSES, seed: int = 0) -> Objective:
    """A task over some of four classes."""
    head = jax.random.normal(jax.random.key(7), (16, 4)) * 5
    heads = jnp.zeros(4, jnp.int32)
    return Objective(
        head=head,
        classes=jnp.asarray(classes),
        heads=heads,
        warmup=jnp.int32(1),
        steps=jnp.int32(steps),
        key=jax.random.key(seed),
    )


def task(number: int) -> Objective:
    """The objective of a task of `TASKS`, from 0."""
    classes = np.isin(np.arange(6), TASKS[number])
    head = jax.random.normal(jax.random.key(3), (16, 6)) * 5
    return objective(4, classes, seed=number)._replace(head=head, heads=jnp.zeros(6, jnp.int32))


def batches_of(number: int) -> list[Batch]:
    """Two batches of one shape, the second padded, with labels from the task's classes."""
    random = np.random.default_rng(number)
    return [
        batch._replace(label=random.choice(TASKS[number], 8).astype(np.int32))
        for batch in (batch_of(8), batch_of(5, padding=3))
    ]


def nearby(params, seed: int):
    """Other parameters, at a distance of about a twentieth."""
    flat, rebuild = jax.flatten_util.ravel_pytree(params)
    return rebuild(flat + 0.05 * jax.random.normal(jax.random.key(seed), flat.shape))


def flat(tree) -> np.ndarray:
    """All entries, float64 (n,)."""
    return np.asarray(jax.flatten_util.ravel_pytree(tree)[0], np.float64)


_features = jax.jit(image_features, static_argnums=0)


def forward(tower, params, batch: Batch, goal: Objective) -> Forward:
    """A step's forward pass at these parameters."""
    pixels = Preprocessing(16).evaluate(batch.image, batch.box)
    return Forward(pixels, _features(tower[0], params, pixels), batch.mask, goal)
