"""The work that is timed: an image tower of random weights, a batch of noise, the training step.

Speed does not depend on the numbers, so far as none of them is zero, infinite or denormal.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from magmax_jax.config import TrainConfig
from magmax_jax.data import Batch, Preprocessing, Source
from magmax_jax.models import CLIP, CLIPConfig
from magmax_jax.scenarios import Head, Scenario, Task
from magmax_jax.sharding import Layout, one_device
from magmax_jax.training import Objective, Trainer, make_trainer

CLASSES = 100
SPREAD = 0.02
"""Standard deviation of parameters, around one for the scales of norms and else around zero."""


class Training(NamedTuple):
    """What a training step takes."""

    trainer: Trainer
    theta: nnx.State
    batch: Batch
    """On the device."""
    objective: Objective


def image_tower(
    config: CLIPConfig, dtype: str, seed: int = 0, **options
) -> tuple[nnx.GraphDef, nnx.State]:
    """The image tower and random float32 parameters; `options` are those of `abstract_tower`."""
    random = np.random.default_rng(seed)

    def numbers(path: tuple[str, ...], leaf: nnx.Param) -> nnx.Param:
        noise = SPREAD * random.standard_normal(leaf.shape, np.float32)
        return leaf.replace(jnp.asarray(noise + (path[-1] == "scale"), jnp.float32))

    graphdef, shapes = abstract_tower(config, dtype, **options)
    return graphdef, nnx.map_state(numbers, shapes)


def abstract_tower(config: CLIPConfig, dtype: str, **options) -> tuple[nnx.GraphDef, nnx.State]:
    """The image tower and its parameters' shapes; `options` are those of `CLIP.image_tower`."""
    clip = nnx.eval_shape(lambda: CLIP(config, rngs=nnx.Rngs(0)))
    return clip.image_tower(dtype, **options)


def images(batch_size: int, side: int, seed: int = 0) -> Batch:
    """Noise on the host: uint8 (b, side, side, 3), every row a sample."""
    random = np.random.default_rng(seed)
    return Batch(
        image=random.integers(0, 256, (batch_size, side, side, 3), np.uint8),
        box=np.tile(np.array([0, 0, side, side], np.int32), (batch_size, 1)),
        label=random.integers(0, CLASSES, batch_size).astype(np.int32),
        index=np.arange(batch_size, dtype=np.int32),
        mask=np.ones(batch_size, bool),
    )


def head(projection: int, seed: int = 0) -> jax.Array:
    """A zero-shot head of random directions, float32 (p, k)."""
    directions = jax.random.normal(jax.random.key(seed), (projection, CLASSES))
    return directions / jnp.linalg.norm(directions, axis=0)


def objective(projection: int) -> Objective:
    """A task of all classes, with one step of warm-up."""
    return Objective(
        head=head(projection),
        classes=jnp.ones(CLASSES, bool),
        heads=jnp.zeros(CLASSES, jnp.int32),
        warmup=jnp.int32(1),
        steps=jnp.int32(1000),
        key=jax.random.key(0),
    )


def scenario(images: np.ndarray, labels: np.ndarray, classes: Sequence[np.ndarray]) -> Scenario:
    """Tasks that have images to be tested on and none to learn from.

    Args:
      images: uint8 (n, height, width, 3).
      labels: int32 (n,).
      classes: of each task.
    """
    names = tuple(f"class {i}" for i in range(sum(map(len, classes))))
    source = Source(images, labels, names, image_shape=images.shape[1:3])
    tasks = tuple(
        Task(f"task {i}", np.zeros(0, np.int64), np.flatnonzero(np.isin(labels, own)), own)
        for i, own in enumerate(classes, start=1)
    )
    return Scenario("noise", source, source, tasks, (Head(names, ("{}",)),))


def training(
    config: CLIPConfig,
    batch_size: int,
    dtype: str,
    train: TrainConfig | None = None,
    layout: Layout | None = None,
    tower: tuple[nnx.GraphDef, nnx.State] | None = None,
) -> Training:
    """The product's own step on a batch of noise of the tower's size.

    Args:
      train: the recipe; the paper's by default.
      tower: graph and parameters; `image_tower` of the configuration by default.
      layout: where they lie; on one device by default.
    """
    layout = layout or one_device()
    side = config.vision.image_size
    graphdef, theta = tower or image_tower(config, dtype, whole=layout.whole)
    trainer = make_trainer(graphdef, Preprocessing(side), train or TrainConfig(), layout=layout)
    return Training(
        trainer,
        layout.params(theta),
        trainer.place(images(batch_size, side)),
        layout.replicate(objective(config.projection)),
    )
